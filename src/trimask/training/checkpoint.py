"""A run's `config.json` and `checkpoints/step_00001234/`: written whole or not at all, verified when read."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import Tensor

from trimask.config import differences
from trimask.io import load_tensors, read_json, save_tensors, sha256, write_json

logger = logging.getLogger(__name__)

KIND = "checkpoint"
TENSORS_FILE = "state.safetensors"
STATE_FILE = "state.json"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Everything that the next step depends on, after `step` updates.

    `seconds` and `tokens` are totals since step 0; `window` holds the metrics of the steps since the last log
    point, whose tokens are not yet in `tokens`.
    """

    step: int
    tensors: dict[str, Tensor]
    seconds: float = 0.0
    tokens: int = 0
    window: list[dict[str, float]] = field(default_factory=list)


def open_run(out: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Makes `out` a run directory of `config`, or checks that it is one.

    ValueError if `out` holds anything and `resume` is not set, if it holds something other than a run, or if
    the run's config differs (the message names the fields).
    """
    path = out / "config.json"
    if resume and path.exists():
        changed = sorted(differences(read_json(path), _plain(config)))
        if changed:
            raise ValueError(
                f"{out} was started with another config: {'; '.join(changed)}. "
                "Resume with the same values, or choose another --out"
            )
        return
    # Hidden files are leftovers of a start that was killed while it wrote.
    if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        mend = "it is no run: choose another --out" if resume else "use --resume, or choose another --out"
        raise ValueError(f"{out} is not empty: {mend}")
    write_json(path, config)


@final
class Checkpoints:
    """The checkpoints of one run, of which the newest `keep` are kept."""

    def __init__(self, run: Path, *, config: dict[str, Any], keep: int) -> None:
        assert keep >= 1
        self._folder = run / "checkpoints"
        self._config = _plain(config)
        self._keep = keep
        for leftover in self._folder.glob(".*"):  # of a process that was killed while it wrote or removed one
            shutil.rmtree(leftover)

    def steps(self) -> list[int]:
        """The steps of the checkpoints on disk, oldest first."""
        numbers = (path.name.removeprefix("step_") for path in self._folder.glob("step_*"))
        return sorted(int(number) for number in numbers if number.isdecimal())

    def path(self, step: int) -> Path:
        return self._folder / f"step_{step:08d}"

    def describe_newest(self) -> str:
        """For error messages: which checkpoint a resume would start from."""
        steps = self.steps()
        return (
            f"the last whole checkpoint is {self.path(steps[-1])}" if steps else "no checkpoint is there yet"
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes into a hidden folder, renamed once all is on disk; then removes checkpoints beyond `keep`.

        OSError (no space, no permission) leaves the earlier checkpoints whole.
        """
        path = self.path(checkpoint.step)
        assert not path.exists(), f"{path} exists"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.mkdir(parents=True)
            self._write(temporary, checkpoint)
            os.replace(temporary, path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                # `OSError` picks the subclass (PermissionError, …) by the number.
                message = f"could not write {path}: {reason}; {self.describe_newest()}"
                raise OSError(error.errno, message) from error
            raise
        _sync(self._folder)
        for step in self.steps()[: -self._keep]:
            self._remove(step)

    def load_newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None if the run never wrote one.

        One that is truncated, altered or of another run is reported, renamed to `*.corrupt`, and the one
        before is used. ValueError if none is whole.
        """
        for step in reversed(self.steps()):
            try:
                return self._read(step)
            except (ValueError, FileNotFoundError) as error:
                aside = self._set_aside(step)
                logger.warning("checkpoint of step %d is unusable (%s); set aside as %s", step, error, aside)
        if any(self._folder.glob("*.corrupt*")):
            raise ValueError(f"no checkpoint in {self._folder} is whole: start again with another --out")
        return None

    def _write(self, folder: Path, checkpoint: Checkpoint) -> None:
        tensors = _unshared(checkpoint.tensors)
        save_tensors(
            folder / TENSORS_FILE, tensors, kind=KIND, config=self._config, step=str(checkpoint.step)
        )
        state = {
            "step": checkpoint.step,
            "seconds": checkpoint.seconds,
            "tokens": checkpoint.tokens,
            "window": checkpoint.window,
            "config_fingerprint": _fingerprint(self._config),
            "sha256": sha256(folder / TENSORS_FILE),
        }
        write_json(folder / STATE_FILE, state)

    def _read(self, step: int) -> Checkpoint:
        folder = self.path(step)
        state = read_json(folder / STATE_FILE)
        names = {"step", "seconds", "tokens", "window", "config_fingerprint", "sha256"}
        if not isinstance(state, dict) or not names <= state.keys() or state["step"] != step:
            raise ValueError(f"{folder / STATE_FILE} is not the state of step {step}")
        if state["config_fingerprint"] != _fingerprint(self._config):
            raise ValueError(f"{folder} belongs to a run with another config")
        if state["sha256"] != sha256(folder / TENSORS_FILE):
            raise ValueError(f"{folder / TENSORS_FILE} is not as it was written: truncated or altered")
        return Checkpoint(
            step=step,
            tensors=load_tensors(folder / TENSORS_FILE, kind=KIND).tensors,
            seconds=state["seconds"],
            tokens=state["tokens"],
            window=state["window"],
        )

    def _set_aside(self, step: int) -> Path:
        source = self.path(step)
        aside = source.with_name(f"{source.name}.corrupt")
        count = 1
        while aside.exists():
            count += 1
            aside = source.with_name(f"{source.name}.corrupt{count}")
        os.replace(source, aside)
        return aside

    def _remove(self, step: int) -> None:
        # Renamed first: a process killed between two files must not leave half a checkpoint under its name.
        hidden = self.path(step).with_name(f".{self.path(step).name}.old")
        os.replace(self.path(step), hidden)
        shutil.rmtree(hidden)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors whose memory another tensor also uses (tied weights): safetensors refuses those."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        result[name] = tensor.detach().clone() if address in seen else tensor.detach()
        seen.add(address)
    return result


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config, allow_nan=False))


def _fingerprint(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
