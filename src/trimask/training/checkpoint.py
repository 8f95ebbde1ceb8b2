"""A run's `checkpoints/step_00001234/`: written atomically, verified when read.

A checkpoint is a folder with safetensors files from each process and `state.json`.
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
from trimask.training.lease import hold_for_reading, lock_for_removal
from trimask.training.run_directory import CHECKPOINTS, list_changes, to_plain
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


class ConfigMismatch(UserError):
    """An intact checkpoint belongs to a run with another configuration."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state after `step` updates that the next step needs besides the tensors.

    `seconds`, `tokens` and `skipped` (updates) are totals since step 0; `skipped_in_a_row` counts the most
    recent. `window` holds the metrics since the last log point, not yet included in the totals.
    `metrics_sha256` covers the rows of `metrics.jsonl` up to this step.
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
    """The checkpoints of one run; only the newest `keep` are kept.

    All processes of `world` make the same calls. A background thread writes one checkpoint at a time; leaving
    `with` waits until all is on disk.
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
        """Return the steps of the checkpoints on disk, oldest first."""
        found = (_STEP.fullmatch(path.name) for path in self._folder.glob("step_*") if path.is_dir())
        return sorted(int(match["step"]) for match in found if match and match["suffix"] is None)

    def path(self, step: int) -> Path:
        return self._folder / f"step_{step:08d}"

    def describe_newest(self) -> str:
        """Describe, for error messages, the checkpoint that a resume would start from; wait for the one being
        written."""
        self._background.settle()
        return self._newest()

    def _newest(self) -> str:
        steps = self.steps()
        return (
            f"the last whole checkpoint is {self.path(steps[-1])}" if steps else "no checkpoint is there yet"
        )

    # Writing

    def __enter__(self) -> "Checkpoints":
        """Remove leftovers of a process that was killed while writing or removing a checkpoint."""
        self._world.run_on_main(self._remove_leftovers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failure:  # any error: it must not hide the one that ended the run
            if error is None:
                raise
            logger.error("%s", failure)
        finally:
            self._background.close()

    def save(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        """Wait for the previous save, copy the tensors to the host, and return; write in the background.

        The checkpoint is written to a hidden folder, which is renamed once all processes' files are on disk;
        then checkpoints beyond `keep` are removed. An OSError (no space, no permission) leaves earlier
        checkpoints intact; `wait` raises it.
        """
        self.wait()
        if self._world.control is None:
            quiet_in_single_process()
        copies = self._copies.of(tensors)
        self._background.start(partial(self._write, checkpoint, copies))

    @property
    def has_failed(self) -> bool:
        """Whether this process knows that the last save failed: then all processes must `wait`."""
        return self._background.has_failed

    def wait(self) -> None:
        """Wait until all is on disk; raise the error of any process in all."""
        self._background.wait()

    def _write(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        path = self.path(checkpoint.step)
        temporary = path.with_name(f".{path.name}{_UNWRITTEN}")
        if self._world.device.type == "cuda":
            torch.cuda.set_device(self._world.device)  # a thread begins on the first GPU
        try:
            hashes = write_tensors(temporary, tensors, self._writers)
            self._writers.run_on_main(partial(self._commit, temporary, checkpoint, hashes))
        except Exception as error:  # any error: remove the partial checkpoint and re-raise
            if self._world.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                # `OSError` picks the subclass (PermissionError, …) by the number.
                raise OSError(error.errno, f"could not write {path}: {reason}; {self._newest()}") from error
            raise
        self._writers.run_on_main(self._remove_old)

    def _commit(self, temporary: Path, checkpoint: Checkpoint, hashes: Mapping[str, str]) -> None:
        path = self.path(checkpoint.step)
        assert not path.exists(), f"{path} exists"
        state = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
        more = {
            "num_processes": self._world.size,
            "config": to_plain(self._config),
            "may_change": self._may_change,
            "sha256": dict(sorted(hashes.items())),
        }
        io.write_sealed(temporary / STATE_FILE, state | more)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(self._folder)

    def _remove_old(self) -> None:
        for step in self.steps()[: -self._keep]:
            # Rename first: a process killed between two files must not leave a partial checkpoint.
            hidden = self.path(step).with_name(f".{self.path(step).name}{_REMOVED}")
            with lock_for_removal(self.path(step) / STATE_FILE) as is_free:
                if is_free:
                    os.replace(self.path(step), hidden)
                    # Files that the file system still holds (.nfs…) are removed at the next start.
                    shutil.rmtree(hidden, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        # Leave foreign files alone: .DS_Store, .nfs…
        for leftover in self._folder.glob(".step_*"):
            match = _STEP.fullmatch(leftover.name.removeprefix("."))
            if match and match["suffix"] in (_UNWRITTEN, _REMOVED):
                shutil.rmtree(leftover, ignore_errors=True)

    # Reading

    def load_newest(self, into: Mapping[str, Tensor]) -> Checkpoint | None:
        """Load the newest intact checkpoint into the memory of `into`, which may be sharded differently and
        name only some of the tensors. Return None if the run never wrote one.

        A checkpoint that is truncated or altered is reported and renamed to `*.corrupt`, and the previous one
        is used. All processes get the same result.

        Raises:
            UserError: none is intact.
            ConfigMismatch: the newest belongs to a run with another config; nothing is renamed.
        """
        if self._world.control is None:
            quiet_in_single_process()
        for step in reversed(self._world.run_on_main(self.steps)):
            try:
                return self._read(step, into)
            except ConfigMismatch:  # the checkpoint is intact, and what differs may be config.json
                raise
            except (ValueError, FileNotFoundError) as error:
                aside = self._world.run_on_main(partial(io.set_aside, self.path(step)))
                if self._world.is_main:
                    logger.warning(
                        "checkpoint of step %d is unusable (%s); set aside as %s", step, error, aside
                    )
        if self._world.run_on_main(lambda: any(self._folder.glob("*.corrupt*"))):
            raise UserError(f"no checkpoint in {self._folder} is intact: start again with another --out")
        return None

    def peek_newest(self, into: Mapping[str, Tensor]) -> Checkpoint | None:
        """Load like `load_newest`, but read-only and in one process, while the run may continue: rename
        nothing, and keep the writer from removing the checkpoint being read.
        """
        quiet_in_single_process()
        for _ in range(_TRIES):
            steps = self.steps()
            for step in reversed(steps):
                with hold_for_reading(self.path(step) / STATE_FILE) as is_there:
                    if not is_there and not self.path(step).exists():
                        break  # replaced by a newer one
                    try:
                        return self._read(step, into)
                    except ConfigMismatch:
                        raise
                    except (ValueError, FileNotFoundError) as error:
                        logger.warning("checkpoint of step %d is unusable (%s)", step, error)
            else:
                if steps:
                    raise UserError(f"no checkpoint in {self._folder} is intact: let the run write another")
                return None
        raise UserError(
            f"the checkpoints in {self._folder} are replaced faster than they can be read: try again"
        )

    def load_step(self, step: int, into: Mapping[str, Tensor]) -> Checkpoint:
        """Load the checkpoint of `step` like `peek_newest`. UserError or FileNotFoundError if it is not
        intact."""
        quiet_in_single_process()
        with hold_for_reading(self.path(step) / STATE_FILE) as is_there:
            if not is_there and not self.path(step).exists():
                raise FileNotFoundError(f"{self.path(step)} {NO_LONGER}")
            return self._read(step, into)

    def _read(self, step: int, into: Mapping[str, Tensor]) -> Checkpoint:
        state = self._world.run_on_main(partial(self._read_state, step))
        verify_files(self.path(step), state["sha256"], self._world)
        read_tensors(self.path(step), into, self._world)
        return Checkpoint(**{f.name: state[f.name] for f in fields(Checkpoint) if f.name in state})

    def _read_state(self, step: int) -> dict[str, Any]:
        path = self.path(step) / STATE_FILE
        state = io.read_sealed(path)
        if not _is_state(state) or state["step"] != step:
            raise UserError(f"{path} is not the state of step {step}")
        may_change = {*self._may_change, *state["may_change"]}
        changed = list_changes(state["config"], self._config, may_change)
        if changed:
            raise ConfigMismatch(
                f"{path.parent} belongs to a run with another config: {'; '.join(changed)}. Restore "
                "config.json of the run, or move this checkpoint away"
            )
        return state


def _is_state(value: Any) -> bool:
    """Return whether a state file has all fields, each of its type."""
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
        # A file name that leads out of the folder is invalid.
        and all(Path(name).name == name and isinstance(h, str) for name, h in value["sha256"].items())
    )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
