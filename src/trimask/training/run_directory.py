"""A run's directory: made with its `config.json`, or found to be that of the same run."""

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
from trimask.training.tracker import METRICS_FILE

logger = logging.getLogger(__name__)

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
INTERVALS = ("run.log_every", "run.checkpoint_every")
"""What any resumed run may have otherwise than its start."""


def open_run(
    out: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    may_change: Collection[str] = (),
    leftovers: Collection[str] = (),
    world: World = ALONE,
) -> None:
    """Make `out` a run directory of `config`, or check that it is one.

    A value of `config` may be a configuration (a dataclass): a stored one that lacks fields, since it was
    written before there were any such, counts as if it had their defaults. What lies under the dotted paths
    `may_change` may differ on resume: `config.json` then takes the new values; each checkpoint keeps those
    that it was computed with. A start that has left nothing but files of the names `leftovers`, no
    checkpoint and no metrics, is begun anew.

    UserError, in all processes, if `out` holds anything and `resume` is not set, if it holds something other
    than a run, or if the run's config differs elsewhere (the message names the fields).
    """
    world.main_only(partial(_open_run, out, config, resume, may_change, leftovers))


def _open_run(
    out: Path,
    config: Mapping[str, Any],
    resume: bool,
    may_change: Collection[str],
    leftovers: Collection[str],
) -> None:
    check_run(out, config, resume=resume, may_change=may_change, leftovers=leftovers)
    path = out / CONFIG
    if not resume and os.path.lexists(path) and completed(read_config(out), config) != plain(config):
        for name in (*leftovers, MODULES, CONFIG):
            _remove(out / name)
    keep_modules(plain(config), out)
    stored = read_config(out) if os.path.lexists(path) else None
    if stored != plain(config):
        if stored is not None:
            logger.info("%s goes on with %s", out, "; ".join(sorted(differences(stored, plain(config)))))
        io.write_sealed(path, plain(config))


def keep_modules(stored: Any, folder: Path) -> None:
    """Leave in `folder` a copy of each file of the user's whose classes a stored configuration names."""
    for file in modules.files_of(stored):
        if not (folder / MODULES / file.copy).exists():
            with io.atomic_write(folder / MODULES / file.copy) as temporary:
                temporary.write_bytes(file.source)


def read_config(run: Path) -> dict[str, Any]:
    """The `config.json` of a run, whose modules of the user's are then imported. UserError or
    FileNotFoundError if it is damaged or describes no run, or a module is missing.
    """
    path = run / CONFIG
    stored = io.read_sealed(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("run", {}), dict):
        raise UserError(f"{path} does not describe a run: choose another folder")
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
    """Whether `open_run` would make or find a run there: raises what it would, and writes nothing."""
    path = out / CONFIG
    if resume and os.path.lexists(path):
        changed = changes(read_config(out), config, may_change)
        if changed:
            raise UserError(
                f"{out} was started with another config: {'; '.join(changed)}. "
                "Resume with the same values, or choose another --out"
            )
    # Hidden files are leftovers of a start that was killed while it wrote.
    elif _visible(out) - {MODULES} and not holds_nothing(out, leftovers):
        mend = "it is no run: choose another --out" if resume else "use --resume, or choose another --out"
        raise UserError(f"{out} is not empty: {mend}")


def holds_nothing(out: Path, leftovers: Collection[str]) -> bool:
    """Whether the run in `out` has ended before its first checkpoint and its first row of metrics, and there
    is nothing else but files of the names `leftovers`.
    """
    metrics, checkpoints = out / METRICS_FILE, out / CHECKPOINTS
    return (
        (out / CONFIG).is_file()
        and _visible(out) <= {CONFIG, MODULES, METRICS_FILE, CHECKPOINTS, *leftovers}
        and not (metrics.exists() and metrics.stat().st_size)
        and not _visible(checkpoints)
    )


def _visible(folder: Path) -> set[str]:
    """Names of the entries of a folder that are not hidden; none where there is no folder."""
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


def changes(stored: Mapping[str, Any], config: Mapping[str, Any], may_change: Collection[str]) -> list[str]:
    """A line for each field in which a stored config differs from `config`, `may_change` apart; sorted."""
    before, now = completed(stored, config), plain(config)
    return sorted(differences(_without(before, may_change), _without(now, may_change)))


def _without(config: Any, paths: Collection[str]) -> Any:
    """A JSON value less what lies under the dotted `paths`."""
    if not isinstance(config, dict):
        return config
    kept = {}
    for name, value in config.items():
        below = [path.removeprefix(f"{name}.") for path in paths if path.startswith(f"{name}.")]
        if name not in paths:
            kept[name] = _without(value, below)
    return kept


def completed(stored: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The stored config with defaults for the fields that its classes have gained since."""
    whole = dict(stored)
    for name, value in config.items():
        if is_dataclass(value) and name in stored:
            try:
                whole[name] = to_dict(from_dict(type(value), stored[name]))
            except ConfigError:  # of another class: the comparison says in what it differs
                continue
    return whole


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: configurations become objects, tuples lists."""
    values = {name: to_dict(value) if is_dataclass(value) else value for name, value in config.items()}
    return json.loads(json.dumps(values, allow_nan=False))
