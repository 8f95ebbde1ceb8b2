"""Texts in a folder of their own, beside that of the recordings or pictures, under the same names."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from trimask.media.rejection import Rejection
from trimask.prepare.decode import read_part
from trimask.sources import columns
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan


def read(source: Path, files: Mapping[str, str]) -> tuple[dict[str, tuple[str, str | None]], dict[str, str]]:
    """Of each picture or recording the text and the speaker, and why others are set aside."""
    for name, content in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    found, rejected = {}, {}
    for part in make_plan(str(source), PrepareOptions()).parts:
        for item in read_part(part, PrepareOptions()):
            if isinstance(item, Rejection):
                rejected[item.key] = item.detail
            else:
                assert isinstance(item, Item)
                media = item.image or item.speech
                name = media.relative_to(source).as_posix() if isinstance(media, Path) else item.key
                found[name] = (item.text.decode(), item.speaker)
    return found, rejected


def test_vctk(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    columns.warn_speaker_source.cache_clear()
    files = {}
    for speaker, number in (("p225", "001"), ("p225", "002"), ("p226", "001")):
        files[f"txt/{speaker}/{speaker}_{number}.txt"] = f"said {speaker} {number}"
        for microphone in ("mic1", "mic2"):
            files[f"wav48_silence_trimmed/{speaker}/{speaker}_{number}_{microphone}.flac"] = "F"
    files["wav48_silence_trimmed/p227/p227_001_mic1.flac"] = "no text: they lost it"
    found, rejected = read(tmp_path, files)
    assert found == {
        f"wav48_silence_trimmed/{speaker}/{speaker}_{number}_{microphone}.flac": (
            f"said {speaker} {number}",
            speaker,
        )
        for speaker, number in (("p225", "001"), ("p225", "002"), ("p226", "001"))
        for microphone in ("mic1", "mic2")
    }
    assert list(rejected) == ["wav48_silence_trimmed/p227/p227_001_mic1.flac"]
    assert [record.message for record in caplog.records] == [
        "speakers are identified by folders (p225 of wav48_silence_trimmed/p225/p225_001_mic1.flac)"
    ]


@pytest.mark.parametrize(
    ("media", "texts"),
    [
        *[("wavs/a.wav", "texts/a.txt"), ("images/a.jpg", "captions/a.txt"), ("wav/a.wav", "lab/a.lab")],
        *[("Images/a.jpg", "Captions/A.TXT"), ("data/set/images/a.png", "data/set/text/a.txt")],
        *[("audio/a.mp3", "transcripts/a.mp3.txt"), ("train/images/x/a.png", "train/labels/x/a.txt")],
    ],
)
def test_siblings(tmp_path: Path, media: str, texts: str):
    assert read(tmp_path, {media: "M", texts: "a text"}) == ({media: ("a text", None)}, {})


def test_a_folder_called_after_a_split_is_no_speaker(tmp_path: Path):
    files = {"wav/train/anna/a.wav": "W", "txt/train/anna/a.txt": "one", "wav/test/b.wav": "W"}
    found, _ = read(tmp_path, {**files, "txt/test/b.txt": "two"})
    assert found == {"wav/train/anna/a.wav": ("one", "anna"), "wav/test/b.wav": ("two", None)}


def test_a_text_beside_comes_first_and_other_documents_stay(tmp_path: Path):
    files = {"images/a.png": "P", "images/a.txt": "beside", "texts/a.txt": "elsewhere"}
    found, rejected = read(tmp_path, files)
    assert found == {"images/a.png": ("beside", None), "texts/a.txt": ("elsewhere", None)} and not rejected


def test_common_voice_names_its_speakers_by_client_id(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    columns.warn_speaker_source.cache_clear()
    table = f"client_id\tpath\tsentence\n{'0a' * 64}\tc0.mp3\tgood morning\n"
    (tmp_path / "train.tsv").write_text(table)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/c0.mp3").write_text("M")
    (part,) = make_plan(str(tmp_path), PrepareOptions()).parts
    (item,) = read_part(part, PrepareOptions())
    assert isinstance(item, Item) and item.speaker == "0a" * 64
    assert [record.message for record in caplog.records] == [
        "speakers are identified by the column client_id (choose another with --speaker-column)"
    ]
    stated = columns.find_columns(["client_id", "speaker", "audio", "text"], PrepareOptions(), where="x")
    assert stated.speaker == "speaker"
