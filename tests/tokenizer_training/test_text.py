"""A text tokenizer of one's own: from raw files to a folder to prepare with, and the one that ships again."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from trimask.cli import main
from trimask.io import read_json
from trimask.tokenizers.bundle import SHIPPED, Tokenizers, parts
from trimask.tokenizers.text import TextTokenizer

_WORDS = "река течёт мимо старого дома где живёт мой друг и каждый вечер мы смотрим на воду".split()


@pytest.fixture
def russian(tmp_path: Path) -> Path:
    """Documents, a captioned picture, a recording with its transcript."""
    folder = tmp_path / "тексты"
    (folder / "documents").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(40):
        text = " ".join(draw.choice(_WORDS, 60).tolist())
        (folder / "documents" / f"{number}.txt").write_text(text, encoding="utf-8")
    (folder / "pictures").mkdir()
    pixels = draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "pictures" / "a.png")
    (folder / "pictures" / "a.txt").write_text("щука щука", encoding="utf-8")
    (folder / "clips").mkdir()
    soundfile.write(folder / "clips" / "b.wav", draw.normal(0, 0.1, 32000), 16000)
    (folder / "clips" / "b.txt").write_text("Q Q Q Q Q Q Q Q", encoding="utf-8")
    return folder


def test_own_texts_become_a_tokenizer_to_prepare_with(
    russian: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    words = [
        "train",
        "text_tokenizer",
        "--vocabulary-size",
        "330",
        "--caption-repeats",
        "999",
        "--data",
        str(russian),
    ]
    assert main([*words, "--out", str(run)]) == 0
    told = capsys.readouterr().err
    assert "finished after 74 of 74 steps" in told and "a token holds" in told
    figures = read_json(run / "report.json")
    own, shipped = figures["bytes_per_token"], figures["bytes_per_token_of_the_shipped_one"]
    assert set(own) == set(shipped) and all(own[part] > 3 * shipped[part] for part in own)
    tokenizer = TextTokenizer.load(run / "text.json")
    assert tokenizer.vocabulary_size == 330
    # A caption counts as often as it is told to, and earns merges; a transcript is spelled and earns none.
    assert len(tokenizer.encode("щука")) == 1 and len(tokenizer.encode(" Q")) == 2
    assert main(["tokenizers", "--text", str(run / "text.json"), "--out", str(bundle)]) == 0
    assert Tokenizers.load(bundle).text.encode("щука") == tokenizer.encode("щука")
    # Prepared over the one that ships, such texts cost two tokens a letter, and that is said.
    words = ["prepare", str(russian), "--workers", "1", "--out"]
    for chosen, is_dear in (([], True), (["--tokenizers", str(bundle)], False)):
        capsys.readouterr()
        assert main([*words, str(tmp_path / f"prepared {is_dear}"), *chosen]) == 0
        assert ("train text_tokenizer" in capsys.readouterr().err) == is_dear


@pytest.mark.slow
def test_the_embedded_texts_give_the_one_that_ships(tmp_path: Path) -> None:
    assert main(["train", "text_tokenizer", "--out", str(tmp_path / "run")]) == 0
    found = json.loads((tmp_path / "run" / "text.json").read_text(encoding="utf-8"))
    assert found == json.loads(parts(SHIPPED)["text"].read_text(encoding="utf-8"))
    figures = read_json(tmp_path / "run" / "report.json")
    assert figures["bytes_per_token"] == figures["bytes_per_token_of_the_shipped_one"]
    assert 2.9 < figures["bytes_per_token"]["unseen"] < 3.3


def test_too_little_text_names_the_size_that_it_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one small text, one small text", encoding="utf-8")
    words = ["train", "text_tokenizer", "--data", str(tmp_path / "texts"), "--out", str(tmp_path / "run")]
    assert main(words) == 1
    told = capsys.readouterr().err
    size = int(told.rpartition("--vocabulary-size ")[2].split()[0])
    assert 256 < size < 300
    assert main([*words, "--resume", "--vocabulary-size", str(size)]) in (1, 2), "another config"
    # What was begun holds nothing: the mend works in the same folder.
    assert main([*words, "--vocabulary-size", str(size)]) == 0


def test_a_vocabulary_holds_more_than_the_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "text_tokenizer", "--vocabulary-size", "256"]) == 2
    assert "vocabulary_size 256" in capsys.readouterr().err
