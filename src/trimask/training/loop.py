"""The training loop: a `Step` over batches, with metrics, atomic checkpoints, exact resume, a clean stop."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, final, runtime_checkable

from torch import Tensor

from trimask.errors import UserError
from trimask.training.checkpoint import Checkpoint, Checkpoints
from trimask.training.distributed import ALONE, World
from trimask.training.finiteness import FinitenessCheck
from trimask.training.finiteness import NonFiniteLoss as NonFiniteLoss  # for those who call `train`
from trimask.training.interruption import Interruption, catch_signals
from trimask.training.progress import ProgressReport
from trimask.training.run_directory import open_run
from trimask.training.tracker import SKIPPED, TOKENS, MetricsWindow, Tracker

Stopped = Literal["finished", "deadline", "interrupted"]
Evaluate = Callable[[int], Mapping[str, float]]
OnProgress = Callable[[int, Mapping[str, Any]], None]


@runtime_checkable
class Step(Protocol):
    """One update: forward, backward, optimizer; all processes of a run make the same calls.

    The next update depends only on the step's state (weights, optimizer, step count) and the batch, never on
    global random generators, so that a resumed run equals an uninterrupted one.
    """

    def __call__(self, batch: Any) -> Mapping[str, Tensor | float | int]:
        """Update on `batch`; return scalars of the whole update, equal in all processes, left on the device.

        `tokens` is a count (summed), the rest are averaged. `loss` and `grad_norm` must be finite; others may
        be NaN if the batch has nothing to measure. A step that skips updates with a non-finite gradient
        reports `skipped`: 1 for such an update, else 0. The run continues unless too many follow each other.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return the whole state under flat names, all values finite. Names and shapes are the same before
        the first update, since a checkpoint is read into this memory.
        """
        ...

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        """Load a state from `state_dict`; `tensors` may be the step's own memory."""
        ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """`steps` and `seconds` are totals of the run, including those before a resume."""

    steps: int
    seconds: float
    stopped: Stopped


def train(
    step: Step,
    batches: Callable[[int], Iterable[Any]],
    *,
    out: Path,
    config: Mapping[str, Any],
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
    stages: Mapping[int, str] | None = None,
    may_change: Collection[str] = (),
    world: World = ALONE,
) -> TrainResult:
    """Run `step` on batches 0 … num_steps - 1 in the run directory `out`, or until the deadline or a signal.

    `batches(start)` yields batch `start`, `start + 1`, …: pure in the index, so that a resume is exact.
    `config` (JSON values and dataclasses) is written before the first step; values under its dotted paths
    `may_change` may differ on resume. `deadline` counts seconds over all resumes. `evaluate(step)` is called
    every `evaluate_every` steps; its metrics are stored as `evaluation/…`. `on_progress(step, row)` is called
    with each row of `metrics.jsonl`; `is_quiet` suppresses the progress report, which names the `stages` (by
    first update) of a run whose loss changes its meaning. On SIGINT or SIGTERM the current step is finished
    and a checkpoint saved; a second signal stops at once.

    Checkpoints are written in the background, and are on disk when the run ends, however it ends. If one
    cannot be written, the run stops at the next step, since later work could be lost.

    All processes of `world` make this call, with a step over their part of each batch; they stop at the same
    step. `evaluate` is called in all, `on_progress` only in the main process, which writes and reports.

    Raises UserError (a directory in use, another config, batches that end early), OSError (no space, no
    permission) and NonFiniteLoss; in each case the last checkpoint is intact.
    """
    intervals = {"num_steps": num_steps, "checkpoint_every": checkpoint_every, "log_every": log_every}
    for name, value in {**intervals, "keep_checkpoints": keep_checkpoints}.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    if (evaluate is None) != (evaluate_every is None) or (evaluate_every is not None and evaluate_every < 1):
        raise UserError(f"evaluate and evaluate_every (at least 1, not {evaluate_every}) go together")
    open_run(out, config, resume=resume, may_change=may_change, world=world)
    checkpoints = Checkpoints(out, config=config, keep=keep_checkpoints, may_change=may_change, world=world)
    tensors = step.state_dict()
    restored = checkpoints.load_newest(tensors)
    if restored is not None:
        step.load_state_dict(tensors)
    del tensors
    begin = restored or Checkpoint(step=0)
    is_quiet = is_quiet or not world.is_main
    with (
        Tracker(out, keep_until=begin.step, expected=begin.metrics_sha256, world=world) as tracker,
        ProgressReport(
            describe,
            num_steps=num_steps,
            start=begin.step,
            deadline=deadline,
            is_quiet=is_quiet,
            stages=stages,
        ) as progress,
        catch_signals() as interruption,
        checkpoints,
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
            on_progress=on_progress if world.is_main else None,
            world=world,
            checkpoints=checkpoints,
            tracker=tracker,
            progress=progress,
            interruption=interruption,
            done=begin.step,
            saved=begin.step,
            tokens=begin.tokens,
            skipped=begin.skipped,
            check=FinitenessCheck(
                batches=batches,
                checkpoints=checkpoints,
                world=world,
                checked=begin.step,
                skipped_in_a_row=begin.skipped_in_a_row,
            ),
            window=MetricsWindow(begin.window),
            began=time.monotonic() - begin.seconds,
            rate_began=(begin.seconds, begin.tokens),
        )
        stopped = run.run_until_stopped()
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
    world: World
    checkpoints: Checkpoints
    tracker: Tracker
    progress: ProgressReport
    interruption: Interruption
    done: int  # updates so far
    saved: int  # updates in the newest checkpoint
    tokens: int
    skipped: int
    check: FinitenessCheck
    window: MetricsWindow
    began: float
    rate_began: tuple[float, int]  # seconds and tokens at the last log point of this process
    unwritten: OSError | None = None  # why the main process could not write metrics

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def run_until_stopped(self) -> Stopped:
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
        raise UserError(f"the batches ended after {self.done}, but the run needs {self.num_steps}")

    def _why_stop(self) -> Stopped | None:
        """Return the same reason in all processes; raise the writers' errors in all."""
        reasons: dict[Stopped, bool] = {
            "interrupted": self.interruption.has_arrived,
            "deadline": self.seconds() >= self.deadline,
        }
        is_in_trouble = self.unwritten is not None or self.checkpoints.has_failed
        if self.world.any(is_in_trouble or any(reasons.values())):
            found = self.world.gather((reasons, is_in_trouble, self.unwritten))
            if any(is_in_trouble for _, is_in_trouble, _ in found):
                self.checkpoints.wait()
                lost = RuntimeError("another process could not write a checkpoint")
                raise next((error for _, _, error in found if error is not None), lost)
            reasons = {name: any(of[name] for of, _, _ in found) for name in reasons}
        if self.done >= self.num_steps:
            return "finished"
        return next((name for name, holds in reasons.items() if holds), None)

    def _log(self) -> None:
        """Write a row only if a log point or an evaluation is due: a stop leaves no trace."""
        is_last = self.done == self.num_steps
        row: dict[str, float | int] = {}
        if self.done % self.log_every == 0 or is_last:
            row |= self._make_row()
        if self.evaluate and self.evaluate_every and (self.done % self.evaluate_every == 0 or is_last):
            self.check.metrics(self.window.gather(), self.done)
            figures = self.evaluate(self.done)
            row |= {f"evaluation/{name}": float(value) for name, value in figures.items()}
        if not row:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        whole = {"step": self.done, "seconds": self.seconds(), **finite}
        try:
            self.tracker.write(whole)
        except OSError as error:  # `_why_stop` reports it to the other processes
            self.unwritten = error
        self.progress.figures(whole)
        if self.on_progress is not None:
            self.on_progress(self.done, whole)

    def _make_row(self) -> dict[str, float | int]:
        self.check.metrics(self.window.gather(), self.done)
        means: dict[str, float | int] = {**self.window.mean()}
        self.window.clear()
        if SKIPPED in means:
            self.skipped += round(means.pop(SKIPPED))
            means["skipped_updates"] = self.skipped
        if TOKENS not in means:
            return means
        self.tokens += round(means[TOKENS])
        now = self.seconds()
        before, tokens_before = self.rate_began
        self.rate_began = (now, self.tokens)
        rate = (self.tokens - tokens_before) / max(now - before, 1e-9)
        return means | {TOKENS: self.tokens, "tokens_per_second": rate}

    def _save(self) -> None:
        self.check.metrics(self.window.gather(), self.done)
        if self.saved == self.done:
            return
        tensors = self.step.state_dict()
        self.check.tensors(tensors, self.done)
        window = [{k: v for k, v in metrics.items() if math.isfinite(v)} for metrics in self.window.gather()]
        checkpoint = Checkpoint(
            step=self.done,
            seconds=self.seconds(),
            tokens=self.tokens,
            skipped=self.skipped,
            skipped_in_a_row=self.check.skipped_in_a_row,
            window=window,
            metrics_sha256=self.tracker.sha256,
        )
        self.checkpoints.save(checkpoint, tensors)
        self.saved = self.done
