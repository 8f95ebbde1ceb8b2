"""`trimask tokenizers`, and a run over a folder that it made."""

import json
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from public_models import save_dac, save_vq
from trimask.cli import main
from trimask.tokenizers.bundle import hashes


def fails(capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str) -> None:
    assert main(["tokenizers", *words]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trimask: error: ") and message in line, line


def test_the_geometry_of_a_folder(tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizers", str(tokenizers_folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["text"] == {"vocabulary_size": 260}
    image, speech = shown["image"], shown["speech"]
    assert (image["family"], image["image_size"], image["grid"]) == ("trimask", 64, [8, 8])
    assert image["codes_per_image"] == 64 * image["num_codebooks"]
    assert (speech["sample_rate"], speech["frame_rate"]) == (16_000, 25)
    assert speech["codes_per_second"] == 25 * speech["num_codebooks"]
    assert shown["hashes"] == hashes(tokenizers_folder)
    assert main(["tokenizers"]) == 0
    printed = capsys.readouterr().out
    assert "grid 8 x 8" in printed and "sample_rate 16,000" in printed
    assert f"{hashes()['text.json']}  text.json" in printed


def test_wrong_arguments_are_told(
    tokenizers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "new")]
    fails(capsys, ["--image", "a/b"], 2, "--image makes a new tokenizer folder: say where to write it")
    fails(capsys, out, 2, "give a tokenizer with --text, --image or --speech")
    fails(capsys, [*out, "--speech=a/b", "--image-size=8"], 2, "--image-size is for --image")
    fails(capsys, [*out, "--image=a/b", "--num-codebooks=8"], 2, "--num-codebooks is for --speech")
    fails(capsys, [*out, "--image", str(tmp_path / "none")], 2, "is neither a folder nor a name on the hub")
    fails(capsys, [str(tmp_path / "none")], 2, "none is not a folder: give a tokenizer folder")
    fails(capsys, ["--image=a/b", "--out", str(tokenizers_folder)], 2, "exists and is not an empty folder")
    fails(capsys, [str(tmp_path)], 1, "text.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("few_speeches")
def test_from_a_public_tokenizer_to_samples(
    tokenizers_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, run = tmp_path / "tokenizers", tmp_path / "run"
    # Another size than the pictures of the data, another rate than their audio.
    image, speech = save_vq(tmp_path / "vq"), save_dac(tmp_path / "dac", downsampling_ratios=[4, 8, 10])
    words = ["--image", str(image), "--image-size=32", "--speech", str(speech), "--num-codebooks=2"]
    assert main(["tokenizers", str(tokenizers_folder), *words, "--out", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["image"]["family"], shown["image"]["codes_per_image"]) == ("VQModel", 16)
    assert (shown["image"]["codebook_size"], shown["image"]["bits_per_image"]) == (32, 80.0)
    assert (shown["speech"]["family"], shown["speech"]["frame_rate"]) == ("dac", 25)
    assert (shown["speech"]["codes_per_second"], shown["speech"]["bits_per_second"]) == (50, 200.0)
    assert shown["hashes"]["text.json"] == hashes(tokenizers_folder)["text.json"]

    steps = ["--num-steps=2", "--data.num-concepts=8", "--data.num-sentences=2", "--model.width=16"]
    steps += ["--model.num-heads=1", "--threads=1", "--tokenizers", str(folder), "--out", str(run)]
    assert main(["train", "debug", *steps]) == 0
    assert hashes(run / "tokenizers") == hashes(folder)
    assert json.loads((run / "config.json").read_text())["tokenizers"] == hashes(folder)
    capsys.readouterr()
    prompt = ["--prompt", "red apple", "--num-steps=2", "--out", str(tmp_path / "samples"), "--json"]
    for task in ("text_to_image", "text_to_speech"):
        assert main(["sample", str(run), "--task", task, *prompt]) == 0
    (picture,) = (tmp_path / "samples").glob("*.png")
    with Image.open(picture) as made:
        assert made.size == (32, 32)
    (recording,) = (tmp_path / "samples").glob("*.wav")
    assert soundfile.info(recording).samplerate == 8000
