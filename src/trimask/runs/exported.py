"""What travels with exported weights: which tokenizers, which run, which lengths and prompts.

All of it stands in the header of the safetensors file, as JSON strings.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from trimask import modules
from trimask.config import from_dict, to_dict
from trimask.data.selection import PreparedData, QuickstartData
from trimask.errors import UserError
from trimask.model.weights import stored_hashes
from trimask.runs.lengths import load_lengths
from trimask.runs.resume import begun
from trimask.runs.seen import SEEN, load_seen
from trimask.sampling.defaults import DEFAULTS, Samplers
from trimask.sampling.length import LengthPolicy
from trimask.sampling.prompts import Seen
from trimask.sampling.sampler import SamplerConfig
from trimask.seals import parse_json
from trimask.tokenizers.bundle import SHIPPED, hashes
from trimask.training.run import RunConfig

_RUN, _LENGTHS, _SEEN, _TOKENIZERS = "run", "lengths", "seen", "tokenizers"


def facts_of_run(folder: Path, tokenizers: Path) -> dict[str, str]:
    """What an export of the run in `folder` says beside recipe and steps. Of prepared folders the names are
    told, not where they lie.
    """
    found: dict[str, Any] = {_TOKENIZERS: hashes(tokenizers), _SEEN: to_dict(seen_in(folder))}
    lengths = load_lengths(folder)
    if lengths is not None:
        found[_LENGTHS] = to_dict(lengths)
    start = begun(folder)
    if start is not None and isinstance(start.config, RunConfig):
        config = start.config
        if isinstance(config.data, PreparedData):
            names = tuple(Path(place.name) for place in config.data.folders)
            config = replace(config, data=replace(config.data, folders=names))
        if isinstance(config.data, QuickstartData) and config.data.readings is not None:
            name = Path(config.data.readings.name)
            config = replace(config, data=replace(config.data, readings=name))
        found[_RUN] = to_dict(config)
    return {name: json.dumps(value, ensure_ascii=False) for name, value in found.items()}


def samplers_in(folder: Path) -> Mapping[str, SamplerConfig]:
    """How the run in `folder` samples each task; an old one by the defaults."""
    config = _config_in(folder)
    return DEFAULTS if config is None else config.sampler


def samplers_of(facts: Mapping[str, str], path: Path) -> Mapping[str, SamplerConfig]:
    """How the run that the exported file `path` comes from samples each task, or the defaults."""
    run = _decoded(dict, facts, _RUN, path)
    if run is None:
        return DEFAULTS
    stored = {"sampler": run.get("sampler", {})}
    modules.load_all(stored, path.parent)
    try:
        return from_dict(Samplers, stored).sampler
    except ValueError as error:
        raise UserError(f"{path} is damaged ({_RUN}: {error}): export it again") from error


def seen_in(folder: Path) -> Seen:
    """What the run in `folder` knows of prompts; of one that kept nothing, its tasks, and the voices that its
    configuration names.
    """
    if os.path.lexists(folder / SEEN):
        return load_seen(folder)
    config = _config_in(folder)
    if config is None:
        return Seen()
    tasks = tuple(dict.fromkeys(part.task for part in config.mixture.components))
    return Seen(tasks=tasks, voices=dict.fromkeys(getattr(config.data, "voices", ()), 0))


def _config_in(folder: Path) -> RunConfig | None:
    """The configuration of the run in `folder`; None of an old one, of which generating needs nothing."""
    try:
        start = begun(folder)
    except ValueError:
        return None
    return start.config if start is not None and isinstance(start.config, RunConfig) else None


def seen_of(facts: Mapping[str, str], path: Path) -> Seen:
    """What the exported file `path` says of prompts, in `facts`."""
    return _decoded(partial(from_dict, Seen), facts, _SEEN, path) or Seen()


def lengths_of(facts: Mapping[str, str], path: Path) -> LengthPolicy | None:
    """The lengths of spans that the exported file `path` names."""
    return _decoded(partial(from_dict, LengthPolicy), facts, _LENGTHS, path)


def config_of(facts: Mapping[str, str], path: Path) -> RunConfig:
    """The run that the weights in `path` come from.

    Raises:
        UserError: the file does not say.
    """
    stored = _decoded(lambda value: value, facts, _RUN, path)
    if stored is None:
        raise UserError(f"{path} does not say which run it comes from: export it again from the run")
    modules.load_all(stored, path.parent)
    found = _decoded(partial(from_dict, RunConfig), facts, _RUN, path)
    assert found is not None
    return found


def tokenizers_for_file(path: Path, facts: Mapping[str, str], given: Path | None) -> Path:
    """The folder of tokenizers that the weights in `path` were trained over: `given`, one beside the file, or
    those that ship.

    Raises:
        UserError: none of them are, or the file does not say and none are given.
    """
    named = stored_hashes(path, facts)
    if named is None:
        if given is None:
            raise UserError(
                f"{path} does not name its tokenizers: give them with --tokenizers DIR, or export it again"
            )
        return given
    for folder in [given] if given is not None else [path.parent / _TOKENIZERS, SHIPPED]:
        if folder.is_dir() and hashes(folder) == named:
            return folder
    where = "those that ship" if given is None else str(given)
    raise UserError(
        f"{path} was trained over other tokenizers than {where}: give its own (RUN/tokenizers of its run) "
        "with --tokenizers DIR"
    )


def _decoded(read: Callable[[Any], Any], facts: Mapping[str, str], name: str, path: Path) -> Any:
    if name not in facts:
        return None
    try:
        return read(parse_json(facts[name]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({name}: {error}): export it again") from error
