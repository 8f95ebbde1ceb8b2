"""A run's `checkpoints/step_00001234/`: written whole or not at all, verified when read.

A checkpoint is a folder of safetensors files, by each process that wrote it, and `state.json`.
"""

import logging
import math
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, final

import torch
from torch import Tensor

from trimask import io
from trimask.errors import UserError
from trimask.training.background import Background
from trimask.training.distributed import ALONE, World
from trimask.training.lease import about_to_remove, held
from trimask.training.run_directory import CHECKPOINTS, changes, plain
from trimask.training.sharded_tensors import (
    HostCopies,
    quiet_in_single_process,
    read_tensors,
    verify_files,
    write_tensors,
)

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"
NO_LONGER = "is not there, or no longer: a run keeps its newest checkpoints; give the run itself, or another"
_TRIES = 100
_UNWRITTEN, _REMOVED = ".tmp", ".old"
_STEP = re.compile(r"step_(?P<step>\d{8,})(?P<suffix>\..*)?")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What the next step depends on beside the tensors, after `step` updates.

    `seconds`, `tokens` and `skipped` (updates left out) are totals since step 0, `skipped_in_a_row` those
    just before; `window` holds the metrics of the steps since the last log point, whose tokens and skipped
    updates are not yet in the totals. `metrics_sha256` is of the rows of `metrics.jsonl` up to this step.
    """

    step: int
    seconds: float = 0.0
    tokens: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    window: list[dict[str, float]] = field(default_factory=list)
    metrics_sha256: str | None = None


@final
class Checkpoints:
    """The checkpoints of one run, of which the newest `keep` are kept.

    Used by all processes of `world` alike. Writing happens in a thread of its own, at most one checkpoint at
    a time, inside `with`, which ends when all is on disk.
    """

    def __init__(
        self,
        run: Path,
        *,
        config: Mapping[str, Any],
        keep: int,
        may_change: Collection[str] = (),
        world: World = ALONE,
    ) -> None:
        assert keep >= 1
        self._folder = run / CHECKPOINTS
        self._config = config
        self._may_change = sorted(may_change)
        self._keep = keep
        self._world = world
        self._writers = replace(world, control=world.background)  # what the thread may talk through
        self._copies = HostCopies()
        self._background = Background()

    def steps(self) -> list[int]:
        """The steps of the checkpoints on disk, oldest first."""
        found = (_STEP.fullmatch(path.name) for path in self._folder.glob("step_*") if path.is_dir())
        return sorted(int(match["step"]) for match in found if match and match["suffix"] is None)

    def path(self, step: int) -> Path:
        return self._folder / f"step_{step:08d}"

    def describe_newest(self) -> str:
        """For error messages: which checkpoint a resume would start from, once the one under way is done."""
        self._background.settle()
        return self._newest()

    def _newest(self) -> str:
        steps = self.steps()
        return (
            f"the last whole checkpoint is {self.path(steps[-1])}" if steps else "no checkpoint is there yet"
        )

    # Writing

    def __enter__(self) -> "Checkpoints":
        """Removes what a process that was killed while it wrote or removed a checkpoint has left."""
        self._world.main_only(self._remove_leftovers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failure:  # of any kind: the error that ends the run is not hidden by it
            if error is None:
                raise
            logger.error("%s", failure)
        finally:
            self._background.close()

    def save(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        """Waits for the one before, copies the tensors to the host, and returns: the rest is done meanwhile.

        Written into a hidden folder, renamed once all files of all processes are on disk; then checkpoints
        beyond `keep` are removed. An OSError (no space, no permission) leaves the earlier checkpoints whole;
        `wait` raises it.
        """
        self.wait()
        if self._world.control is None:
            quiet_in_single_process()
        copies = self._copies.of(tensors)
        self._background.start(partial(self._write, checkpoint, copies))

    @property
    def has_failed(self) -> bool:
        """Whether this process knows that the last one could not be written: time for all to `wait`."""
        return self._background.has_failed

    def wait(self) -> None:
        """Returns once all is on disk; raises what went wrong, the same in all processes."""
        self._background.wait()

    def _write(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        path = self.path(checkpoint.step)
        temporary = path.with_name(f".{path.name}{_UNWRITTEN}")
        if self._world.device.type == "cuda":
            torch.cuda.set_device(self._world.device)  # a thread begins on the first GPU
        try:
            hashes = write_tensors(temporary, tensors, self._writers)
            self._writers.main_only(partial(self._commit, temporary, checkpoint, hashes))
        except Exception as error:  # all of them: half a checkpoint goes, and the error goes on
            if self._world.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                # `OSError` picks the subclass (PermissionError, …) by the number.
                raise OSError(error.errno, f"could not write {path}: {reason}; {self._newest()}") from error
            raise
        self._writers.main_only(self._remove_old)

    def _commit(self, temporary: Path, checkpoint: Checkpoint, hashes: Mapping[str, str]) -> None:
        path = self.path(checkpoint.step)
        assert not path.exists(), f"{path} exists"
        state = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
        more = {
            "num_processes": self._world.size,
            "config": plain(self._config),
            "may_change": self._may_change,
            "sha256": dict(sorted(hashes.items())),
        }
        io.write_sealed(temporary / STATE_FILE, state | more)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(self._folder)

    def _remove_old(self) -> None:
        for step in self.steps()[: -self._keep]:
            # Renamed first: a process killed between two files must not leave half a checkpoint there.
            hidden = self.path(step).with_name(f".{self.path(step).name}{_REMOVED}")
            with about_to_remove(self.path(step) / STATE_FILE) as is_free:
                if is_free:
                    os.replace(self.path(step), hidden)
                    # What a file system still holds (.nfs…) goes at the next start.
                    shutil.rmtree(hidden, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        # Nothing else is ours: .DS_Store, .nfs…
        for leftover in self._folder.glob(".step_*"):
            match = _STEP.fullmatch(leftover.name.removeprefix("."))
            if match and match["suffix"] in (_UNWRITTEN, _REMOVED):
                shutil.rmtree(leftover, ignore_errors=True)

    # Reading

    def load_newest(self, into: Mapping[str, Tensor]) -> Checkpoint | None:
        """Reads the newest whole checkpoint into the memory of `into`, which may be sharded over other
        processes than those that wrote it and need not name all tensors; None if the run never wrote one.

        One that is truncated, altered or of another run is reported, renamed to `*.corrupt`, and the one
        before is used. UserError if none is whole. What happens, happens in all processes.
        """
        if self._world.control is None:
            quiet_in_single_process()
        for step in reversed(self._world.main_only(self.steps)):
            try:
                return self._read(step, into)
            except (ValueError, FileNotFoundError) as error:
                aside = self._world.main_only(partial(io.set_aside, self.path(step)))
                if self._world.is_main:
                    logger.warning(
                        "checkpoint of step %d is unusable (%s); set aside as %s", step, error, aside
                    )
        if self._world.main_only(lambda: any(self._folder.glob("*.corrupt*"))):
            raise UserError(f"no checkpoint in {self._folder} is whole: start again with another --out")
        return None

    def peek_newest(self, into: Mapping[str, Tensor]) -> Checkpoint | None:
        """As `load_newest`, for who only reads, while the run may go on: nothing is renamed, and what is read
        is not removed meanwhile. In one process.
        """
        quiet_in_single_process()
        for _ in range(_TRIES):
            steps = self.steps()
            for step in reversed(steps):
                with held(self.path(step) / STATE_FILE) as is_there:
                    if not is_there and not self.path(step).exists():
                        break  # replaced by a newer one
                    try:
                        return self._read(step, into)
                    except (ValueError, FileNotFoundError) as error:
                        logger.warning("checkpoint of step %d is unusable (%s)", step, error)
            else:
                if steps:
                    raise UserError(f"no checkpoint in {self._folder} is whole: let the run write another")
                return None
        raise UserError(f"the checkpoints in {self._folder} are replaced faster than read: try again")

    def load_step(self, step: int, into: Mapping[str, Tensor]) -> Checkpoint:
        """As `peek_newest`, of `step` alone. UserError or FileNotFoundError if it is not whole."""
        quiet_in_single_process()
        with held(self.path(step) / STATE_FILE) as is_there:
            if not is_there and not self.path(step).exists():
                raise FileNotFoundError(f"{self.path(step)} {NO_LONGER}")
            return self._read(step, into)

    def _read(self, step: int, into: Mapping[str, Tensor]) -> Checkpoint:
        state = self._world.main_only(partial(self._read_state, step))
        verify_files(self.path(step), state["sha256"], self._world)
        read_tensors(self.path(step), into, self._world)
        return Checkpoint(**{f.name: state[f.name] for f in fields(Checkpoint) if f.name in state})

    def _read_state(self, step: int) -> dict[str, Any]:
        path = self.path(step) / STATE_FILE
        state = io.read_sealed(path)
        if not _is_state(state) or state["step"] != step:
            raise UserError(f"{path} is not the state of step {step}")
        may_change = {*self._may_change, *state["may_change"]}
        changed = changes(state["config"], self._config, may_change)
        if changed:
            raise UserError(f"{path.parent} belongs to a run with another config: {'; '.join(changed)}")
        return state


def _is_state(value: Any) -> bool:
    """Whether each field of a state file is there and of its type."""
    counts = ("step", "tokens", "skipped", "skipped_in_a_row")

    def is_number(item: Any) -> bool:
        return type(item) in (int, float) and math.isfinite(item)

    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is int and value[name] >= 0 for name in counts)
        and is_number(value.get("seconds"))
        and isinstance(value.get("config"), dict)
        and isinstance(value.get("may_change"), list)
        and all(isinstance(path, str) for path in value["may_change"])
        and isinstance(value.get("window"), list)
        and all(isinstance(row, dict) and all(map(is_number, row.values())) for row in value["window"])
        and isinstance(value.get("metrics_sha256"), str | None)
        and isinstance(value.get("sha256"), dict)
        # A name that leads elsewhere is none of ours.
        and all(Path(name).name == name and isinstance(h, str) for name, h in value["sha256"].items())
    )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
