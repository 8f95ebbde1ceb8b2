"""`trimask train` on a tokenizer: from raw files to weights, a report, and a folder to train over."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from trimask.cli import main
from trimask.io import load_tensors, read_json, sha256
from trimask.training.tracker import WALL_CLOCK_FIELDS, read_metrics

IMAGE = [
    "train",
    "image_tokenizer_fine",
    "--threads=1",
    "--tokenizer.image-size=16",
    "--tokenizer.width=4",
    "--tokenizer.depth=1",
    "--tokenizer.quantizer.codebook-size=8",
    "--tokenizer.quantizer.num-codebooks=2",
    "--tokenizer.quantizer.dim=4",
    "--training.num-steps=6",
    "--training.batch-size=4",
    "--log-every=1",
    "--checkpoint-every=2",
]
SPEECH = [
    "train",
    "speech_tokenizer",
    "--threads=1",
    "--tokenizer.autoencoder.quantizer.codebook-size=8",
    "--tokenizer.autoencoder.quantizer.dim=4",
    "--tokenizer.autoencoder.decoder-width=8",
    "--tokenizer.autoencoder.refiner-width=8",
    "--tokenizer.vocoder.width=8",
    "--code.num-steps=3",
    "--code.batch-size=2",
    "--code.crop-frames=32",
    "--vocoder.num-steps=3",
    "--vocoder.batch-size=2",
    "--vocoder.crop-frames=16",
    "--log-every=1",
    "--checkpoint-every=2",
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures without captions, three of them held out, and a file that is none."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 2), ("test", 1)):
        folder = tmp_path / "pictures" / split
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "pictures" / "train" / "corrupt.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Recordings of another rate, some with a transcript beside."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        folder = tmp_path / "recordings" / split
        folder.mkdir(parents=True)
        for number in range(count):
            soundfile.write(folder / f"{number}.wav", generator.uniform(-0.5, 0.5, 16_000), 8000)
            if split == "test":
                (folder / f"{number}.txt").write_text("some words")
    return tmp_path / "recordings"


def metrics(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]


def test_pictures_become_a_tokenizer_a_report_and_a_folder(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*IMAGE, "--data", str(pictures), "--out", str(run), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["steps"] == 6
    assert f"--image {run / 'image.safetensors'} --out tokenizers" in printed.err
    (rejected,) = (run / "data" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected)["reason"] == "corrupt"
    report = read_json(run / "report.json")["image"]
    assert (report["train"]["images"], report["unseen"]["images"]) == (12, 3)
    assert report["unseen"]["codes_per_image"] == 4 * 4 * 2
    page = (run / "report.html").read_text()
    assert "PSNR" in page and page.count("<img") == 2 * 3
    metadata = load_tensors(run / "image.safetensors", kind="image_tokenizer").metadata
    assert metadata["recipe"] == "image_tokenizer_fine"

    assert main(["tokenizers", "--image", str(run), "--out", str(tmp_path / "own"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image"]["image_size"] == 16
    measured = ["tokenizers", "--image", str(run), "--measure", str(tmp_path / "measured")]
    assert main([*measured, "--data", str(pictures), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["image"]
    assert again["unseen"] == report["unseen"]


def test_recordings_become_a_tokenizer_and_a_report(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*SPEECH, "--data", str(recordings), "--out", str(run)]) == 0
    assert [row["step"] for row in read_metrics(run)] == [1, 2, 3, 4, 5, 6]
    figures = read_json(run / "report.json")["speech"]
    assert figures["train"]["clips"] == 3
    report = figures["unseen"]
    assert (report["clips"], report["seconds"], report["codes_per_second"]) == (2, 4.0, 100)
    assert report["mel_cepstral_distance"]["shuffled"]["value"] > 0
    page = (run / "report.html").read_text()
    assert page.count("<audio") == 2 * 2 and "some words" in page
    assert main(["tokenizers", "--speech", str(run), "--out", str(tmp_path / "own"), "--json"]) == 0


@pytest.mark.parametrize(("words", "kind"), [(IMAGE, "image"), (SPEECH, "speech")], ids=["image", "speech"])
def test_a_resumed_run_is_the_run(
    words: list[str], kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue("pictures" if kind == "image" else "recordings")
    words = [*words, "--data", str(data)]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert main([*words, "--out", str(tmp_path / "cut"), "--minutes=0.000001"]) == 0
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")[: len(metrics(tmp_path / "cut"))]
    assert len(metrics(tmp_path / "cut")) < 6
    assert main([*words, "--out", str(tmp_path / "cut"), "--resume"]) == 0
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    file = f"{kind}.safetensors"
    assert sha256(tmp_path / "cut" / file) == sha256(tmp_path / "whole" / file)


def test_a_source_that_changed_is_not_resumed(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*IMAGE, "--data", str(pictures), "--out", str(tmp_path / "run")]
    assert main([*words, "--minutes=0.000001"]) == 0
    (pictures / "train" / "0.png").unlink()
    capsys.readouterr()
    assert main([*words, "--resume"]) == 2
    assert "run.data.fingerprints" in capsys.readouterr().err


def test_small_data_say_all_that_must_change_at_once(
    pictures: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the message says works, with the same --out."""

    def limits(words: list[str]) -> dict[str, int]:
        capsys.readouterr()
        assert main(words) == 1
        (line,) = [x for x in capsys.readouterr().err.splitlines() if "too few" in x]
        found = re.findall(r"(--\S+) is ([\d,]+), at most ([\d,]+)", line)
        return {option: int(most.replace(",", "")) for option, _, most in found}

    out = ["--data", str(pictures), "--out", str(tmp_path / "images")]
    large = ["--tokenizer.quantizer.codebook-size=4096", "--training.batch-size=64"]
    kept = [word for word in IMAGE if word.partition("=")[0] not in options(large)]
    told = limits([*kept, *large, *out])
    assert told.keys() == {"--tokenizer.quantizer.codebook-size", "--training.batch-size"}
    assert told["--training.batch-size"] == 12
    smaller = [f"{option}={most}" for option, most in told.items()]
    assert main([*kept, *smaller, *out]) == 0

    out = ["--data", str(recordings), "--out", str(tmp_path / "speech")]
    large = [
        "--tokenizer.autoencoder.quantizer.codebook-size=4096",
        "--code.crop-frames=9999",
        "--vocoder.crop-frames=8888",
    ]
    kept = [word for word in SPEECH if word.partition("=")[0] not in options(large)]
    told = limits([*kept, *large, *out])
    assert told.keys() == options(large)
    smaller = [f"{option}={min(most, 64)}" for option, most in told.items()]
    assert main([*kept, *smaller, *out]) == 0


def options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words}


def test_show_and_a_dry_run_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "image_tokenizer", "--json", "--training.num-steps=7"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["steps"], shown["codes"]["codes_per_image"], shown["codes"]["bits_per_image"]) == (
        7,
        128,
        1280,
    )
    assert shown["parameters"]["total"] == 610_252
    assert main(["train", "speech_tokenizer", "--dry-run", "--out", str(tmp_path / "run")]) == 0
    assert "100 a second" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["image_tokenizer", "--tokenizers", "."],
            "--tokenizers is for a model, and image_tokenizer is a",
        ),
        (["image_tokenizer", "--data", "nowhere/"], "nowhere does not exist"),
        (["speech_tokenizer", "--model.depth=3"], "model"),
        (["image_tokenizer", "--group-by", "base"], "--group-by is for a tokenizer's raw data"),
    ],
)
def test_wrong_arguments_are_told(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--out", str(tmp_path / "run")]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trimask: error: ") and message in line, line


def test_a_column_groups_the_data_of_a_tokenizer(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `prepare` takes it, and told where there is no such column."""
    dry = [*IMAGE, "--data", str(pictures), "--out", str(tmp_path / "run"), "--dry-run"]
    capsys.readouterr()
    assert main([*dry, "--group-by", "base"]) in (1, 2)
    assert "no column 'base' (--group-by)" in capsys.readouterr().err
    rows = [f"{path.relative_to(pictures)},kind {n % 3}\n" for n, path in enumerate(pictures.rglob("*.png"))]
    (pictures / "metadata.csv").write_text("file_name,base\n" + "".join(rows))
    assert main([*dry, "--group-by", "base", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"]["data"]["options"]["group_by"] == "base"


def test_nothing_to_train_on_is_told(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*IMAGE, "--data", str(recordings), "--out", str(tmp_path / "run")]) == 1
    assert "there are no pictures to train on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.options.validation=7"], "validation 7"),
        (["--data.options.limits.max_seconds=-1"], "max_seconds"),
        (["--training.num-steps=-4"], "num_steps"),
        (["--training.batch-size=many"], "batch_size"),
    ],
)
def test_options_are_checked_before_data_are_read(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["show"], ["train", "--out", str(tmp_path / "run")]):
        gone = ["image_tokenizer", "--data", str(tmp_path / "gone")]
        assert main([*verb, *gone, *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line and "gone" not in line
