import json
import re
from pathlib import Path

import pytest

from trimask.cli import main


def test_a_plan_for_reading_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "trimodal_3b", "--devices", "512", "--device", "h100"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for part in ("fp32 parameters", "AdamW moments", "activations", "of 79.1", "assumed [D]", "checkpoint"):
        assert part in printed
    assert main([*command, "--json", "--price", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["devices"]) == ("trimodal_3b", 512)
    assert found["time"]["cost"] == pytest.approx(2 * found["time"]["device_hours"])


def test_the_plan_in_the_documents_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    shown = re.search(r"^\$ trimask (plan .*)\n([^`]*)```", page, re.MULTILINE)
    assert shown and main(shown[1].split()) == 0
    assert capsys.readouterr().out == shown[2]


def test_horizon_overrides_and_a_measured_mfu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"mfu": {"min": 0.2, "median": 0.25}}))
    command = ["plan", "pilot_320m", "--json", "--tokens=26B", "--compute.micro-batch=4", "--device=b200"]
    assert main([*command, "--mfu", str(result), "--memory=64", "--network", "10"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["time"]["row_tokens"] == pytest.approx(26e9, rel=1e-4)
    assert (found["time"]["mfu"], found["time"]["mfu_source"]) == (0.25, "measured: result.json")
    assert (found["batch"]["micro_batch"], found["memory"]["available"]) == (4, 64 * 2**30)


@pytest.mark.usefixtures("few_speeches")
def test_a_cpu_runs_the_embedded_data(tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "debug", "--device", "cpu", "--tokenizers", str(tokenizers_folder)]) == 0
    printed = capsys.readouterr().out
    assert "batch " in printed and "copy for checkpoints" in printed and "exchange" not in printed


def test_one_of_several_measured_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "gpu.json"
    result.write_text(json.dumps({"large": {"bf16/depth_24": {"mfu": 0.4}, "float8/depth_24": {"mfu": 0.6}}}))
    command = ["plan", "trimodal_3b", "--json", "--mfu"]
    assert main([*command, f"{result}:bf16/depth_24"]) == 0
    time = json.loads(capsys.readouterr().out)["time"]
    assert (time["mfu"], time["mfu_source"]) == (0.4, "measured: gpu.json, large/bf16/depth_24")
    for text, part in ((str(result), "one of large/bf16/depth_24"), (f"{result}:none", "has 0 fields")):
        assert main([*command, text]) == 2
        assert part in capsys.readouterr().err
    result.write_text("{")
    assert main([*command, str(result)]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--devices=0"], "--devices is 0"),
        (["--tokens=many"], "give a number such as 6.4T"),
        (["--mfu=fast"], "--mfu is 'fast'"),
        (["--mfu=2"], "--mfu is 2: give a share"),
        (["--memory=0"], "--memory is 0"),
        (["--compute.replicas=3", "--devices=8"], "the replicas must divide the devices"),
        (["--write=0"], "--write is 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_wrong_arguments(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "pilot_320m", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trimask: error: ") and part in line


def test_a_tokenizer_has_no_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "image_tokenizer"]) == 2
    assert "plan one of a model" in capsys.readouterr().err
