import errno
import logging
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from trimask.training import checkpoint as checkpoint_module
from trimask.training.loop import NonFiniteLoss, TrainResult, train
from trimask.training.tracker import WALL_CLOCK_FIELDS, Tracker, read_metrics


def _figures(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_metrics(run)]


def _weights(run: Path) -> dict[str, Tensor]:
    """All tensors of the newest checkpoint of a run of one process."""
    newest = max((run / "checkpoints").glob("step_*"))
    (path,) = newest.glob("*.safetensors")
    return load_file(path)


def _assert_same_run(run: Path, other: Path) -> None:
    assert _figures(run) == _figures(other)
    weights, others = _weights(run), _weights(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture
def terminal_signals() -> Iterator[None]:
    """As in a terminal. Where the suite itself runs in the background of a script, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("terminal_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_resume_is_exact(number: signal.Signals, tmp_path: Path) -> None:
    config = {"seed": 0}
    result = _count(
        tmp_path / "stopped", config=config, on_step=lambda step: step == 5 and os.kill(os.getpid(), number)
    )
    assert (result.steps, result.stopped) == (5, "interrupted")
    assert _count(tmp_path / "stopped", config=config, resume=True).stopped == "finished"
    _count(tmp_path / "whole", config=config)
    _assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    _count(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("terminal_signals")
def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def twice(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _count(tmp_path / "run", on_step=twice)


# --- A step that counts ---


@dataclass(frozen=True)
class _Batch:
    index: int

    def describe(self) -> str:
        return f"shard {self.index}"


class _Counter:
    """A step whose weight is the sum of what it saw."""

    def __init__(self, values: Mapping[int, float], on_step: Any) -> None:
        self.values, self.on_step = values, on_step
        self.weight = torch.zeros(())

    def __call__(self, batch: _Batch) -> dict[str, Tensor | float]:
        self.on_step(batch.index + 1)
        value = self.values.get(batch.index, float(batch.index))
        if math.isfinite(value):
            self.weight = self.weight + value
        return {
            "loss": torch.tensor(value),
            "tokens": 10.0,
            "text_bits_per_token": math.nan if batch.index % 2 else 1.0,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        self.weight = tensors["weight"]


def _batches(start: int) -> Iterator[_Batch]:
    index = start
    while True:
        yield _Batch(index)
        index += 1


def _count(
    out: Path,
    *,
    values: Mapping[int, float] | None = None,
    on_step: Any = lambda step: None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> TrainResult:
    settings: dict[str, Any] = {"num_steps": 12, "checkpoint_every": 4, "log_every": 3} | options
    batches = settings.pop("batches", _batches)
    return train(_Counter(values or {}, on_step), batches, out=out, config=config or {}, **settings)


def test_rows_hold_means_totals_and_evaluations(tmp_path: Path) -> None:
    seen: list[int] = []
    result = _count(
        tmp_path / "run",
        num_steps=7,
        evaluate=lambda step: {"bits": math.inf if step == 7 else step / 2},
        evaluate_every=2,
        on_progress=lambda step, row: seen.append(step),
    )
    assert (result.steps, result.stopped) == (7, "finished")
    bits = {"text_bits_per_token": 1.0}
    assert _figures(tmp_path / "run") == [
        {"step": 2, "evaluation/bits": 1.0},
        {"step": 3, "loss": 1.0, "tokens": 30, **bits},
        {"step": 4, "evaluation/bits": 2.0},
        {"step": 6, "loss": 4.0, "tokens": 60, **bits, "evaluation/bits": 3.0},
        {"step": 7, "loss": 6.0, "tokens": 70, **bits, "evaluation/bits": None},
    ]
    assert seen == [2, 3, 4, 6, 7]


def test_config_is_there_before_the_first_step_and_stdout_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _count(run, on_step=lambda step: (run / "config.json").stat(), config={"a": 1})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "training: step 12/12" in captured.err


def test_the_deadline_stops_with_a_checkpoint(tmp_path: Path) -> None:
    result = _count(tmp_path / "run", num_steps=10**6, deadline=0.2, on_step=lambda step: time.sleep(0.03))
    assert result.stopped == "deadline" and 0 < result.steps < 10
    assert float(_weights(tmp_path / "run")["weight"]) == sum(range(result.steps))
    assert _count(tmp_path / "run", num_steps=10**6, deadline=0.2, resume=True).steps == result.steps


def test_a_finished_run_resumes_to_nothing(tmp_path: Path) -> None:
    _count(tmp_path / "run")
    figures = _figures(tmp_path / "run")
    assert _count(tmp_path / "run", resume=True).stopped == "finished"
    assert _figures(tmp_path / "run") == figures


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_names_step_batch_and_checkpoint(value: float, tmp_path: Path) -> None:
    # Found at the log point of step 12, or rather before: at the checkpoint of step 8.
    with pytest.raises(
        NonFiniteLoss, match=r"step 7 .*loss = (nan|inf)\. Batch 6: shard 6\. .*step_00000004"
    ):
        _count(tmp_path / "run", values={6: value}, log_every=12)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_00000004"]


def test_a_non_finite_weight_is_never_saved(tmp_path: Path) -> None:
    class Overflowing(_Counter):
        def state_dict(self) -> dict[str, Tensor]:
            return {"weight": self.weight / 0}

    with pytest.raises(NonFiniteLoss, match=r"step 4 .*weight after the update.*no checkpoint is there yet"):
        train(
            Overflowing({}, lambda step: None),
            _batches,
            out=tmp_path,
            config={},
            num_steps=8,
            checkpoint_every=4,
        )
    assert not (tmp_path / "checkpoints").exists()


@pytest.fixture
def failing_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_tensors", full)


@pytest.mark.usefixtures("failing_writer")
def test_a_checkpoint_that_cannot_be_written_stops_the_run_at_the_next_step(tmp_path: Path) -> None:
    seen = []

    def slowly(step: int) -> None:
        seen.append(step)
        time.sleep(0.1)  # time enough for the thread

    with pytest.raises(OSError, match="step_00000004: No space left on device; no checkpoint is there yet"):
        _count(tmp_path / "run", on_step=slowly)
    assert seen in ([1, 2, 3, 4], [1, 2, 3, 4, 5])


@pytest.mark.usefixtures("failing_writer")
def test_the_last_checkpoint_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OSError, match="step_00000003: No space left on device"):
        _count(tmp_path / "run", num_steps=3)

    def broken(step: int) -> None:
        if step == 5:
            raise ZeroDivisionError("a step of the user's")

    with pytest.raises(ZeroDivisionError):
        _count(tmp_path / "other", on_step=broken)
    assert "step_00000004: No space left on device" in caplog.text  # said, though another error ends the run


def test_a_full_disk_under_the_metrics_is_an_os_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Tracker, row: Mapping[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Tracker, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        _count(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


class _Skipping(_Counter):
    """A step that leaves out what is not finite, and says so."""

    def __call__(self, batch: _Batch) -> dict[str, Tensor | float]:
        figures = super().__call__(batch)
        value = self.values.get(batch.index, 0.0)
        return figures | {"grad_norm": abs(value), "skipped": float(not math.isfinite(value))}


def _skip(out: Path, values: Mapping[int, float], on_step: Any = lambda step: None, **options: Any) -> None:
    settings: dict[str, Any] = {"num_steps": 12, "checkpoint_every": 4, "log_every": 3} | options
    train(_Skipping(values, on_step), _batches, out=out, config={}, **settings)


def test_skipped_updates_are_told_counted_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _skip(tmp_path / "run", {3: math.nan, 4: math.inf, 8: math.nan})
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [
        "step 4 is not finite: loss = nan; the update was skipped. Batch 3: shard 3",
        "step 5 is not finite: loss = inf; the update was skipped. Batch 4: shard 4",
        "step 9 is not finite: loss = nan; the update was skipped. Batch 8: shard 8",
    ]
    columns = ("step", "loss", "tokens", "skipped_updates", "text_bits_per_token")
    assert [tuple(row.get(name) for name in columns) for row in _figures(tmp_path / "run")] == [
        (3, 1.0, 30, 0, 1.0),
        (6, 5.0, 60, 2, None),  # the only even batch is a skipped one
        (9, 6.5, 90, 3, 1.0),
        (12, 10.0, 120, 3, 1.0),
    ]


def test_a_run_stops_after_ten_skipped_updates_in_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = dict.fromkeys(range(3, 30), math.nan)

    def interrupt(step: int) -> None:
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    message = (
        r"step 13 is not finite: loss = nan, the 10th update in a row that was skipped\. "
        r"Batch 12: shard 12\. .*step_00000012"
    )
    with pytest.raises(NonFiniteLoss, match=message):
        _skip(tmp_path / "run", values, num_steps=30)
    # The count goes on over a stop.
    _skip(tmp_path / "other", values, interrupt, num_steps=30)
    caplog.clear()
    with pytest.raises(NonFiniteLoss, match=message):
        _skip(tmp_path / "other", values, num_steps=30, resume=True)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.split()[1] for line in told] == ["9", "10", "11", "12"]
    assert _figures(tmp_path / "run") == _figures(tmp_path / "other")


def test_nine_in_a_row_and_again_nine_go_on(tmp_path: Path) -> None:
    _skip(tmp_path / "run", dict.fromkeys([*range(3, 12), *range(13, 22)], math.nan), num_steps=30)
    assert _figures(tmp_path / "run")[-1]["skipped_updates"] == 18


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, not 0"):
        _count(tmp_path / "run", checkpoint_every=0)
    with pytest.raises(ValueError, match="evaluate and evaluate_every"):
        _count(tmp_path / "run", evaluate_every=3)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="the batches ended after 2, but the run needs 12"):
        _count(tmp_path / "run", batches=lambda start: [_Batch(0), _Batch(1)][start:])
