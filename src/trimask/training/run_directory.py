"""A run's directory: create it with its `config.json`, or check that it belongs to the same run."""

import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trimask import io, modules
from trimask.config import ConfigError, differences, from_dict, to_dict
from trimask.errors import UserError
from trimask.modules import MODULES
from trimask.training.distributed import ALONE, World
from trimask.training.old_samplers import convert_old_samplers
from trimask.training.tracker import METRICS_FILE

logger = logging.getLogger(__name__)

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
INTERVALS = ("run.log_every", "run.checkpoint_every")
"""Fields that every run may change on resume."""


def open_run(
    out: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    may_change: Collection[str] = (),
    leftovers: Collection[str] = (),
    world: World = ALONE,
) -> None:
    """Create the run directory `out` for `config`, or check that it is one.

    A value of `config` may be a dataclass; fields missing from an older stored one get their defaults. Values
    under the dotted paths `may_change` may differ on resume: `config.json` is updated, and each checkpoint
    keeps the values it was computed with. A run that left only files named in `leftovers`, without checkpoint
    or metrics, is started anew.

    Raises UserError in all processes if `out` is not empty and `resume` is not set, if it is not a run, or if
    other fields of its config differ (the message names them).
    """
    world.run_on_main(partial(_open_run, out, config, resume, may_change, leftovers))


def _open_run(
    out: Path,
    config: Mapping[str, Any],
    resume: bool,
    may_change: Collection[str],
    leftovers: Collection[str],
) -> None:
    check_run(out, config, resume=resume, may_change=may_change, leftovers=leftovers)
    path = out / CONFIG
    if not resume and os.path.lexists(path) and fill_defaults(read_config(out), config) != to_plain(config):
        for name in (*leftovers, MODULES, CONFIG):
            _remove(out / name)
    io.keep_modules(to_plain(config), out)
    stored = read_config(out) if os.path.lexists(path) else None
    if stored != to_plain(config):
        if stored is not None:
            logger.info("%s goes on with %s", out, "; ".join(sorted(differences(stored, to_plain(config)))))
        io.write_sealed(path, to_plain(config))


def read_config(run: Path) -> dict[str, Any]:
    """Read a run's `config.json` and import the user modules that it names; sampler settings of an earlier
    version are converted. UserError or FileNotFoundError if it is damaged, describes no run, or a module is
    missing.
    """
    path = run / CONFIG
    stored = io.read_sealed(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("run", {}), dict):
        raise UserError(f"{path} does not describe a run: choose another folder")
    if "run" in stored:
        stored["run"] = convert_old_samplers(stored["run"])
    modules.load_all(stored, run)
    return stored


def check_run(
    out: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    may_change: Collection[str] = (),
    leftovers: Collection[str] = (),
) -> None:
    """Raise the errors that `open_run` would; write nothing."""
    path = out / CONFIG
    if resume and os.path.lexists(path):
        changed = list_changes(read_config(out), config, may_change)
        if changed:
            raise UserError(
                f"{out} was started with another config: {'; '.join(changed)}. "
                "Resume with the same values, or choose another --out"
            )
    # Hidden files are leftovers of a start that was killed while writing.
    elif _visible(out) - {MODULES} and not is_unstarted(out, leftovers):
        fix = "it is not a run: choose another --out" if resume else "use --resume, or choose another --out"
        raise UserError(f"{out} is not empty: {fix}")


def is_unstarted(out: Path, leftovers: Collection[str]) -> bool:
    """Return whether the run in `out` ended before its first checkpoint and metrics, leaving only files named
    in `leftovers`.
    """
    metrics, checkpoints = out / METRICS_FILE, out / CHECKPOINTS
    return (
        (out / CONFIG).is_file()
        and _visible(out) <= {CONFIG, MODULES, METRICS_FILE, CHECKPOINTS, *leftovers}
        and not (metrics.exists() and metrics.stat().st_size)
        and not _visible(checkpoints)
    )


def _visible(folder: Path) -> set[str]:
    """Return the names of a folder's visible entries; none if it does not exist."""
    return (
        {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
        if folder.exists()
        else set()
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def list_changes(
    stored: Mapping[str, Any], config: Mapping[str, Any], may_change: Collection[str]
) -> list[str]:
    """Return a line for each field that differs between a stored config and `config`, except `may_change`;
    sorted."""
    before, now = fill_defaults(stored, config), to_plain(config)
    return sorted(differences(_without(before, may_change), _without(now, may_change)))


def _without(config: Any, paths: Collection[str]) -> Any:
    """Return a JSON value without the dotted `paths`."""
    if not isinstance(config, dict):
        return config
    kept = {}
    for name, value in config.items():
        below = [path.removeprefix(f"{name}.") for path in paths if path.startswith(f"{name}.")]
        if name not in paths:
            kept[name] = _without(value, below)
    return kept


def fill_defaults(stored: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill a stored config with defaults of fields that its classes have gained since, and convert sampler
    settings of an earlier version."""
    whole = dict(stored)
    for name, value in config.items():
        if is_dataclass(value) and name in stored:
            try:
                whole[name] = to_dict(from_dict(type(value), convert_old_samplers(stored[name])))
            except ConfigError:  # another class: the comparison reports the difference
                continue
    return whole


def to_plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert to plain JSON values: configurations become objects, tuples lists."""
    values = {name: to_dict(value) if is_dataclass(value) else value for name, value in config.items()}
    return json.loads(json.dumps(values, allow_nan=False))
