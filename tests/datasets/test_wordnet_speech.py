"""Sentences are chosen by a stable hash, and each is read once by each voice."""

import json
from pathlib import Path

import pytest

from fake_packages import FakeArchive
from trimask.datasets import wordnet_speech
from trimask.datasets.fetch import fetch
from trimask.datasets.quickstart.build import SENTENCE_FRACTION
from trimask.datasets.quickstart.reader import load_speech
from trimask.datasets.quickstart.splits import hash_fraction, hash_split
from trimask.datasets.wordnet_speech import WordnetSpeech, choose_sentences, is_readable

WRITTEN = [
    "the oceans are teeming with life",
    "how could you do such a thing?",
    "John's landing on his feet was catlike",
    "I asked him, but he didn't answer",
]
SPOKEN = {
    "the oceans are teeming with life": WRITTEN[0],
    "how could you do such a thing": WRITTEN[1],
    "john's landing on his feet was catlike": WRITTEN[2],
    "i asked him but he didn't answer": WRITTEN[3],
}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """WordNet as a package, and no WordNet installed."""
    archive = FakeArchive(tmp_path / "fake", monkeypatch)
    quotes = "; ".join(f'"{text}"' for text in [*WRITTEN, "too short", "the CIA is in the next building"])
    data = f"00001740 03 n 01 entity 0 000 | that which is; {quotes}\n".encode()
    files = {f"usr/share/wordnet/data.{part}": b"" for part in ("verb", "adj", "adv")}
    package = archive.add(wordnet_speech.WORDNET_BASE, {**files, "usr/share/wordnet/data.noun": data})
    monkeypatch.setattr(wordnet_speech, "WORDNET_BASE", package)
    monkeypatch.setattr(wordnet_speech, "_wordnet", lambda store: store.unpack(package) / "usr/share/wordnet")
    return archive


@pytest.mark.parametrize(
    ("written", "is_good"),
    [
        *((text, True) for text in WRITTEN),
        ("only five words are here", False),
        (" ".join(["word"] * 15), False),
        ("the CIA is in the next building", False),  # initials
        ("Elizabeth II is the head of state", False),
        ("the thing I like about her is ...", False),  # something left out
        ("he paid 20 dollars for the book", False),
        ("they found a corpse in the river", False),  # nobody wants to hear it
    ],
)
def test_what_can_be_read(written: str, is_good: bool):
    assert is_readable(written) is is_good


def test_a_smaller_choice_is_a_prefix_and_equal_words_count_once():
    quotes = [*WRITTEN, "How could you do such a thing!"]
    ranked = sorted(SPOKEN, key=lambda spoken: hash_fraction("sentence", spoken))
    assert list(choose_sentences(quotes, 4).items()) == [(spoken, SPOKEN[spoken]) for spoken in ranked]
    assert list(choose_sentences(quotes, 2)) == ranked[:2]
    with pytest.raises(ValueError, match="--count 5: WordNet has only 4 suitable sentences"):
        choose_sentences(quotes, 5)


def test_embedded_sentences_keep_their_split():
    embedded = {row.text: row.split for row in load_speech() if row.kind == "sentence"}
    long = [text for text in embedded if len(text.split()) >= 6]
    assert len(long) > 1000 and set(choose_sentences(long, len(long))) == set(long)
    found = {text: hash_split("sentence", text, fraction=SENTENCE_FRACTION) for text in long}
    assert found == {text: embedded[text] for text in long}


def test_rows_and_clips(tmp_path: Path, archive: FakeArchive):
    out = tmp_path / "set"
    manifest, _ = fetch(WordnetSpeech(count=2, voices=("slt", "awb")), out)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text("utf-8").splitlines()]
    ranked = sorted(SPOKEN, key=lambda spoken: hash_fraction("sentence", spoken))[:2]
    assert [(row["text"], row["speaker"], row["group"]) for row in rows] == [
        (SPOKEN[spoken], voice, spoken) for spoken in ranked for voice in ("slt", "awb")
    ]
    assert all(
        row["split"] == hash_split("sentence", row["group"], fraction=SENTENCE_FRACTION) for row in rows
    )
    read = sorted((archive.folder / "read.log").read_text().splitlines())
    assert read == sorted(f"{row['speaker']} {row['text']}" for row in rows)
    assert len({(out / row["file_name"]).read_bytes() for row in rows}) == 4
    names = [(package["name"], package["version"]) for package in manifest["packages"]]
    assert names == [("wordnet-base", "1:3.0-37"), ("flite (installed)", "2.2")]


def test_clips_that_were_read_are_kept(tmp_path: Path, archive: FakeArchive):
    (archive.folder / "broken").write_text(WRITTEN[0])
    with pytest.raises(OSError, match="flite could not synthesize 'the oceans"):
        fetch(WordnetSpeech(count=4, voices=("slt",)), tmp_path / "set")
    before = set((archive.folder / "read.log").read_text().splitlines())
    assert not (tmp_path / "set").exists()
    (archive.folder / "broken").unlink()
    fetch(WordnetSpeech(count=4, voices=("slt",)), tmp_path / "set")
    read = (archive.folder / "read.log").read_text().splitlines()
    assert len(read) == len(set(read)) == 4 and before <= set(read)


def test_without_flite_it_is_taken_from_packages(
    tmp_path: Path, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
):
    program = (archive.programs / "flite").read_bytes()
    packages = wordnet_speech.FLITE
    flite = archive.add(packages[0], {"usr/bin/flite": program})
    monkeypatch.setattr(wordnet_speech, "FLITE", (flite, packages[1]))
    archive.without("flite")
    with pytest.raises(OSError, match=r"libflite1=.*; or install flite yourself"):
        fetch(WordnetSpeech(count=1, voices=("slt",)), tmp_path / "set")
    library = archive.add(packages[1], {"usr/lib/x86_64-linux-gnu/libflite.so": b""})
    monkeypatch.setattr(wordnet_speech, "FLITE", (flite, library))
    manifest, _ = fetch(WordnetSpeech(count=1, voices=("slt",)), tmp_path / "set")
    assert [package["is_pinned"] for package in manifest["packages"]] == [True] * 3
    assert len(list((tmp_path / "set/slt").glob("*.wav"))) == 1


def test_a_voice_that_is_not_there():
    with pytest.raises(
        ValueError, match="no voice 'kal' in wordnet-speech: choose from slt, rms, awb, kal16"
    ):
        WordnetSpeech(voices=("kal",))
    with pytest.raises(ValueError, match="count 0: give at least 1"):
        WordnetSpeech(count=0)
