import math
from pathlib import Path

import pytest
import torch

from trimask.training.tracker import MetricsWindow, Tracker, read_metrics


def _write(run: Path, steps: range, keep_until: int = 0) -> None:
    with Tracker(run, keep_until=keep_until) as tracker:
        for step in steps:
            tracker.write({"step": step, "loss": 1 / step})


def test_rows_come_back_exactly(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 4))
    assert read_metrics(tmp_path) == [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]


def test_a_resume_cuts_off_what_it_will_redo(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 6))
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    _write(tmp_path, range(4, 6), keep_until=3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_a_torn_last_line_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    assert "torn line" in caplog.text
    _write(tmp_path, range(3, 4), keep_until=2)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]


def test_damage_in_the_middle_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is it a run directory"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2: not a row"):
        read_metrics(tmp_path)


def test_window_averages_what_is_there_and_sums_tokens() -> None:
    window = MetricsWindow([{"loss": 1.0, "tokens": 10.0}])
    window.append({"loss": torch.tensor(3.0), "tokens": 20, "text_bits_per_token": torch.tensor(math.nan)})
    window.append({"loss": torch.tensor(5.0), "text_bits_per_token": torch.tensor(2.5)})
    assert len(window) == 3
    assert window.mean() == {"loss": 3.0, "tokens": 30.0, "text_bits_per_token": 2.5}
    window.clear()
    assert window.mean() == {}


def test_window_keeps_the_value_when_the_step_reuses_its_memory() -> None:
    window, buffer = MetricsWindow(), torch.tensor(1.0)
    window.append({"loss": buffer})
    buffer.fill_(9.0)
    assert window.gather() == [{"loss": 1.0}]
