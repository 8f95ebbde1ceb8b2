"""The training loop: a `Step` over batches, with metrics, atomic checkpoints, exact resume, a clean stop."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, final, runtime_checkable

from torch import Tensor

from trimask.training.checkpoint import Checkpoint, Checkpoints, open_run
from trimask.training.interruption import Interruption, noted_signals
from trimask.training.progress import ProgressReport
from trimask.training.tracker import TOKENS, MetricsWindow, Tracker

Stopped = Literal["finished", "deadline", "interrupted"]
Evaluate = Callable[[int], Mapping[str, float]]
OnProgress = Callable[[int, Mapping[str, Any]], None]

# A non-finite value of these in a step's metrics stops the run.
_GUARDED = ("loss", "grad_norm")


@runtime_checkable
class Step(Protocol):
    """One update: forward, backward, optimizer.

    All that the next update depends on is in its state (weights, optimizer, its own count of steps) or
    in the batch; it draws no numbers from global generators. Then a resumed run equals an uninterrupted one.
    """

    def __call__(self, batch: Any) -> Mapping[str, Tensor | float | int]:
        """Updates on `batch`; returns scalars, left on the device.

        `tokens` is a count (summed), the rest are averaged. `loss` and `grad_norm` must be finite; any other
        may be NaN where the batch has nothing to measure.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The whole state, flat names; all values finite."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        """Takes up a state on the CPU that `state_dict` gave."""
        ...


class NonFiniteLoss(RuntimeError):
    """An update went wrong: a loss, gradient norm or weight is NaN or infinite. No checkpoint holds it."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """`steps` and `seconds` are totals of the run, including what came before a resume."""

    steps: int
    seconds: float
    stopped: Stopped


def train(
    step: Step,
    batches: Callable[[int], Iterable[Any]],
    *,
    out: Path,
    config: dict[str, Any],
    num_steps: int,
    checkpoint_every: int,
    log_every: int = 10,
    keep_checkpoints: int = 2,
    resume: bool = False,
    deadline: float | int | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    describe: str = "training",
    on_progress: OnProgress | None = None,
    is_quiet: bool = False,
) -> TrainResult:
    """Runs `step` on batches 0 … num_steps - 1 in the run directory `out`, or until the deadline or a signal.

    `batches(start)` yields batch `start`, `start + 1`, …: pure in the index, so that a resume is exact.
    `config` (plain JSON) is written before the first step; `deadline` counts seconds over all resumes.
    `evaluate(step)` is called every `evaluate_every` steps; its figures go in as `evaluation/…`.
    `on_progress(step, row)` is called with each row of `metrics.jsonl`; `is_quiet` leaves out the
    progress report. On SIGINT or SIGTERM the running step is finished and a checkpoint saved; a second
    signal stops at once.

    Raises ValueError (a directory in use, another config, batches that end early), OSError (no space, no
    permission) and NonFiniteLoss; in each case the last checkpoint is whole.
    """
    intervals = {"num_steps": num_steps, "checkpoint_every": checkpoint_every, "log_every": log_every}
    for name, value in {**intervals, "keep_checkpoints": keep_checkpoints}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if (evaluate is None) != (evaluate_every is None) or (evaluate_every is not None and evaluate_every < 1):
        raise ValueError(f"evaluate and evaluate_every (at least 1, not {evaluate_every}) go together")
    open_run(out, config, resume=resume)
    checkpoints = Checkpoints(out, config=config, keep=keep_checkpoints)
    restored = checkpoints.load_newest()
    if restored is not None:
        step.load_state_dict(restored.tensors)
    begin = restored or Checkpoint(step=0, tensors={})
    with (
        Tracker(out, keep_until=begin.step) as tracker,
        ProgressReport(
            describe, num_steps=num_steps, start=begin.step, deadline=deadline, is_quiet=is_quiet
        ) as progress,
        noted_signals() as interruption,
    ):
        run = _Run(
            step=step,
            batches=batches,
            num_steps=num_steps,
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            deadline=math.inf if deadline is None else deadline,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            on_progress=on_progress,
            checkpoints=checkpoints,
            tracker=tracker,
            progress=progress,
            interruption=interruption,
            done=begin.step,
            saved=begin.step,
            tokens=begin.tokens,
            window=MetricsWindow(begin.window),
            began=time.monotonic() - begin.seconds,
            rate_began=(begin.seconds, begin.tokens),
        )
        stopped = run.until_stopped()
        return TrainResult(steps=run.done, seconds=run.seconds(), stopped=stopped)


@final
@dataclass(kw_only=True, slots=True)
class _Run:
    step: Step
    batches: Callable[[int], Iterable[Any]]
    num_steps: int
    checkpoint_every: int
    log_every: int
    deadline: float | int
    evaluate: Evaluate | None
    evaluate_every: int | None
    on_progress: OnProgress | None
    checkpoints: Checkpoints
    tracker: Tracker
    progress: ProgressReport
    interruption: Interruption
    done: int  # updates so far
    saved: int  # updates in the newest checkpoint
    tokens: int
    window: MetricsWindow
    began: float
    rate_began: tuple[float, int]  # seconds and tokens at the last log point of this process

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def until_stopped(self) -> Stopped:
        stopped = self._why_stop()
        if stopped:
            return stopped
        for batch in self.batches(self.done):
            metrics = self.step(batch)
            self.done += 1
            self.window.append(metrics)
            self._log()
            self.progress.advance(self.done, self.seconds())
            stopped = self._why_stop()
            if stopped or self.done % self.checkpoint_every == 0:
                self._save()
            if stopped:
                return stopped
        raise ValueError(f"the batches ended after {self.done}, but the run needs {self.num_steps}")

    def _why_stop(self) -> Stopped | None:
        if self.done >= self.num_steps:
            return "finished"
        if self.interruption.has_arrived:
            return "interrupted"
        return "deadline" if self.seconds() >= self.deadline else None

    def _log(self) -> None:
        """Writes a row if a log point or an evaluation is due; never else: a stop leaves no trace."""
        is_last = self.done == self.num_steps
        row: dict[str, float] = {}
        if self.done % self.log_every == 0 or is_last:
            row |= self._logged()
        if self.evaluate and self.evaluate_every and (self.done % self.evaluate_every == 0 or is_last):
            self._require_finite_metrics()
            figures = self.evaluate(self.done)
            row |= {f"evaluation/{name}": float(value) for name, value in figures.items()}
        if not row:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        whole = {"step": self.done, "seconds": self.seconds(), **finite}
        self.tracker.write(whole)
        self.progress.figures(whole)
        if self.on_progress is not None:
            self.on_progress(self.done, whole)

    def _logged(self) -> dict[str, float]:
        self._require_finite_metrics()
        means = self.window.mean()
        self.window.clear()
        if TOKENS not in means:
            return means
        self.tokens += round(means[TOKENS])
        now = self.seconds()
        before, tokens_before = self.rate_began
        self.rate_began = (now, self.tokens)
        rate = (self.tokens - tokens_before) / max(now - before, 1e-9)
        return means | {TOKENS: self.tokens, "tokens_per_second": rate}

    def _save(self) -> None:
        self._require_finite_metrics()
        if self.saved == self.done:
            return
        tensors = self.step.state_dict()
        for name, tensor in tensors.items():
            # A finite loss can still have had an update that overflowed.
            if not bool(tensor.isfinite().all()):
                raise self._non_finite(self.done, f"{name} after the update")
        window = [{k: v for k, v in metrics.items() if math.isfinite(v)} for metrics in self.window.gather()]
        self.checkpoints.save(
            Checkpoint(
                step=self.done, tensors=tensors, seconds=self.seconds(), tokens=self.tokens, window=window
            )
        )
        self.saved = self.done

    def _require_finite_metrics(self) -> None:
        gathered = self.window.gather()
        for number, metrics in enumerate(gathered, self.done - len(gathered) + 1):
            for name in _GUARDED:
                if not math.isfinite(metrics.get(name, 0.0)):
                    raise self._non_finite(number, f"{name} = {metrics[name]}")

    def _non_finite(self, number: int, what: str) -> NonFiniteLoss:
        index = number - 1
        # Made again rather than kept: a window of batches would hold memory.
        batch = next(iter(self.batches(index)), None)
        describe = getattr(batch, "describe", None)
        name = describe() if callable(describe) else "has no description"
        newest = self.checkpoints.describe_newest()
        return NonFiniteLoss(f"step {number} is not finite: {what}. Batch {index}: {name}. {newest}")
