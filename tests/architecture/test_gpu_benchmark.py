"""benchmarks/gpu.sh at a tiny size on the CPU: that it runs, and that it says what did not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


def run(out: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [str(SCRIPT), "--device", "cpu", "--tiny", "--out", str(out), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, json.loads(out.read_text()), done.stdout + done.stderr


def errors(found: Any, place: str = "") -> list[str]:
    """Where in a result something went wrong."""
    if not isinstance(found, dict):
        return []
    own = [f"{place}: {found['error']}"] if "error" in found else []
    return own + [each for name, value in found.items() for each in errors(value, f"{place}/{name}")]


@pytest.mark.slow
def test_every_section_runs(tmp_path: Path) -> None:
    code, result, said = run(tmp_path / "gpu.json", "--budget", "550")
    assert not errors(result), errors(result)
    assert code == 0, said
    assert result["all_checks_passed"] is True
    assert {name: found["status"] for name, found in result["sections"].items()} == dict.fromkeys(
        ("ceilings", "correctness", "pilot", "large", "profile", "attention", "sampling"), "done"
    )
    assert result["machine"]["device"] == "cpu" and result["versions"]["torch"]
    pilot = result["sections"]["pilot"]["ways"]
    assert all(way["mfu"] > 0 and way["mfu_of_measured_ceiling"] > 0 for way in pilot.values())
    for ways in result["sections"]["sampling"]["faster_passes"].values():
        found = {f"{maker}/{policy}": way for maker in ways for policy, way in ways[maker].items()}
        assert found.pop("plain/Everything")["times_plain"] == 1
        assert len(found) == 7 and all(way["times_plain"] > 0 for way in found.values())
        assert found["compiled/Everything"]["share_of_plain_tokens"] > 0.9
    assert "is_extrapolated" in result["sections"]["large"]["bf16"]["depth_4"]


def test_what_does_not_begin_is_said(tmp_path: Path) -> None:
    code, result, _ = run(tmp_path / "gpu.json", "--budget", "0", "--sections", "pilot", "attention")
    assert code == 1
    assert [found["status"] for found in result["sections"].values()] == ["not begun"] * 2
