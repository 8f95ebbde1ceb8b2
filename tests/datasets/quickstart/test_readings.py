"""More sentences, read aloud beside the embedded ones."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from trimask.datasets.quickstart import load_speech, readings
from trimask.datasets.quickstart.spoken import select_sentences
from trimask.errors import UserError


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A voice that needs no program, and quotes that begin with the embedded sentences."""
    embedded = [row.text for row in load_speech() if row.kind == "sentence"]
    others = ["the third one comes to the second", "it was never said like this before"]
    monkeypatch.setattr(readings, "require_flite", lambda: "flite")
    monkeypatch.setattr(readings, "quoted_examples", lambda folder: [*others, *embedded])
    monkeypatch.setattr(readings, "select_sentences", lambda quotes, count: [*embedded, *others][:count])
    monkeypatch.setattr(readings, "speak", lambda text, voice: np.arange(len(text), dtype=np.int16))
    return others


def test_further_sentences_stand_beside_the_embedded_ones(reader: list[str], tmp_path: Path):
    *_, last = readings.read_sentences(tmp_path / "out")
    assert "recordings" in last
    rows = load_speech(folder=tmp_path / "out")
    embedded = load_speech()
    assert rows[: len(embedded)] == embedded
    assert [row.text for row in rows[len(embedded) :]] == reader
    for row in rows[len(embedded) :]:
        samples, rate = soundfile.read(io.BytesIO(row.encoded), dtype="int16")
        assert rate == row.sample_rate and np.array_equal(samples, np.arange(len(row.text)))
        np.testing.assert_allclose(row.waveform(), samples / 2**15, atol=1e-6)
    assert len({row.id for row in rows}) == len(rows)


def test_the_embedded_sentences_are_the_first_of_any_number():
    """The order is that of a stable hash: more quotes of which they are the first change no name or split."""
    embedded = [row.text for row in load_speech() if row.kind == "sentence"]
    assert select_sentences(embedded, len(embedded)) == embedded


def test_another_wordnet_is_refused(reader: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(readings, "select_sentences", lambda quotes, count: reader)
    with pytest.raises(ValueError, match="do not begin with the 2,000 embedded ones"):
        list(readings.read_sentences(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_refused_before_anything_is_read(reader: list[str], tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file: name a folder"):
        next(readings.read_sentences(tmp_path / "file"))
    for count in (0, -1):
        with pytest.raises(UserError, match=f"num_sentences is {count}: must be at least 1"):
            next(readings.read_sentences(tmp_path / "out", num_sentences=count))
