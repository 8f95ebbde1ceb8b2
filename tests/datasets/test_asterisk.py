"""Prompts with clean transcripts, and why the others are left out."""

import json
from pathlib import Path

import pytest

from fake_packages import PROMPTS, FakeArchive, asterisk_packages
from trimask.datasets.asterisk import Asterisk, reason_to_drop, split_of, tidy
from trimask.datasets.fetch import fetch
from trimask.datasets.quickstart.splits import hash_split

ROW = {"speaker": "allison", "language": "en", "licence": "CC-BY-SA-3.0"}


def test_rows_and_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asterisk_packages(FakeArchive(tmp_path, monkeypatch), monkeypatch)
    out = tmp_path / "set"
    manifest, is_new = fetch(Asterisk(), out)
    assert is_new and manifest["dropped"] == {
        "initials": ["en/sip"],
        "lines of other prompts in the transcript": ["en/joined"],
        "names of letters and signs": ["en/letters/w"],
        "no recording": ["en/unrecorded"],
        "no transcript": ["en/untold"],
        "notes or signs in the transcript": ["en/noted"],
        "tones and silence": ["en/beep", "en/silence/1"],
        "transcript longer than the recording": ["en/long"],
    }
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text("utf-8").splitlines()]
    texts = {
        "activated": "Activated.",
        "conf-menu": "Press 1 now.",
        "conf-mute-in": "To mute yourself",
        "conf-mute-out": "to mute yourself.",
        "digits/1": "one",
    }
    assert rows == [
        {"file_name": f"en/{prompt}.wav", "text": text, "split": split_of(text, "en"), **ROW}
        for prompt, text in texts.items()
    ]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.wav")) == sorted(
        row["file_name"] for row in rows
    )
    assert "CC-BY-SA-3.0" in (out / "LICENCES.md").read_text("utf-8")


def test_equal_words_share_a_split_and_it_is_the_stable_hash():
    assert split_of("To mute, yourself", "en") == split_of("to mute yourself.", "en")
    splits = {split_of(f"prompt {n}", "en") for n in range(40)}
    assert splits == {"train", "validation", "test"}
    assert split_of("Hello!", "fr") == hash_split("asterisk-fr", "hello", fraction=0.15)


@pytest.mark.parametrize(
    ("text", "tidied"),
    [("... for ...", "for"), ("…and", "and"), ("Hello.  You", "Hello. You"), ("Wait. ", "Wait.")],
)
def test_dots_of_continued_sentences_go(text: str, tidied: str):
    assert tidy(text) == tidied


def test_a_language_that_is_not_there():
    with pytest.raises(ValueError, match="no language 'xx' in asterisk: choose from en, es, fr, it, ru"):
        Asterisk(languages=("en", "xx"))
    with pytest.raises(ValueError, match="give at least one, and each only once"):
        Asterisk(languages=("en", "en"))


def test_a_word_without_lower_case_letters_is_said_by_its_letters(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"")
    assert reason_to_drop("a", "N B S", {}, {"a": tmp_path / "a.wav"}) == "initials"
    assert "untold" not in PROMPTS
