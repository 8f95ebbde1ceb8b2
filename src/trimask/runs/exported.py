"""The metadata of exported weights: tokenizers, run, span lengths and prompt statistics.

It is stored in the header of the safetensors file, as JSON strings.
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
from trimask.errors import UserError
from trimask.generation.length import LengthPolicy
from trimask.generation.prompts import Seen
from trimask.model.weights import stored_hashes
from trimask.runs.lengths import load_lengths
from trimask.runs.presets import Presets, read_presets
from trimask.runs.resume import read_start
from trimask.runs.seen import SEEN, load_seen
from trimask.sampling.config import SamplerConfig
from trimask.sampling.defaults import DEFAULTS, Samplers
from trimask.seals import parse_json
from trimask.tokenizers.bundle import SHIPPED, hashes
from trimask.training.old_samplers import convert_old_samplers
from trimask.training.run import RunConfig

_RUN, _LENGTHS, _SEEN, _TOKENIZERS = "run", "lengths", "seen", "tokenizers"
PRESETS_FACT = "presets"


def collect_facts(folder: Path, tokenizers: Path) -> dict[str, str]:
    """Return the metadata of an export of the run in `folder`, besides recipe and steps. Prepared folders are
    stored by name, without their path.
    """
    found: dict[str, Any] = {_TOKENIZERS: hashes(tokenizers), _SEEN: to_dict(seen_in(folder))}
    lengths = load_lengths(folder)
    if lengths is not None:
        found[_LENGTHS] = to_dict(lengths)
    start = read_start(folder)
    if start is not None and isinstance(start.config, RunConfig):
        config = replace(start.config, data=start.config.data.without_places())
        found[_RUN] = to_dict(config)
    return {name: json.dumps(value, ensure_ascii=False) for name, value in found.items()}


def load_samplers(folder: Path) -> Mapping[str, SamplerConfig]:
    """Return the sampler settings of the run in `folder`; the defaults for an old run."""
    config = _config_in(folder)
    return DEFAULTS if config is None else config.sampler


def read_samplers(facts: Mapping[str, str], path: Path) -> Mapping[str, SamplerConfig]:
    """Return the sampler settings stored in the exported file `path`, or the defaults."""
    run = _decode(_read_run, facts, _RUN, path)
    if run is None:
        return DEFAULTS
    stored = {"sampler": run.get("sampler", {})}
    modules.load_all(stored, path.parent)
    try:
        return from_dict(Samplers, stored).sampler
    except ValueError as error:
        raise UserError(f"{path} is damaged ({_RUN}: {error}): export it again") from error


def seen_in(folder: Path) -> Seen:
    """Return the prompt statistics of the run in `folder`; if it stored none, its tasks and the voices in its
    configuration.
    """
    if os.path.lexists(folder / SEEN):
        return load_seen(folder)
    config = _config_in(folder)
    if config is None:
        return Seen()
    tasks = tuple(dict.fromkeys(part.task for part in config.mixture.components))
    return Seen(tasks=tasks, voices=dict.fromkeys(getattr(config.data, "voices", ()), 0))


def _config_in(folder: Path) -> RunConfig | None:
    """Return the configuration of the run in `folder`; None for an old one, whose generation needs none."""
    try:
        start = read_start(folder)
    except ValueError:
        return None
    return start.config if start is not None and isinstance(start.config, RunConfig) else None


def read_seen(facts: Mapping[str, str], path: Path) -> Seen:
    """Return the prompt statistics in `facts` of the exported file `path`."""
    return _decode(partial(from_dict, Seen), facts, _SEEN, path) or Seen()


def read_lengths(facts: Mapping[str, str], path: Path) -> LengthPolicy | None:
    """Return the span lengths stored in the exported file `path`."""
    return _decode(partial(from_dict, LengthPolicy), facts, _LENGTHS, path)


def read_presets_of_file(facts: Mapping[str, str], path: Path) -> Presets | None:
    """Return the presets stored in the exported file `path`."""
    return _decode(partial(read_presets, path=path), facts, PRESETS_FACT, path)


def read_run_config(facts: Mapping[str, str], path: Path) -> RunConfig:
    """Return the configuration of the run that the weights in `path` come from.

    Raises:
        UserError: the file does not state it.
    """
    stored = _decode(_read_run, facts, _RUN, path)
    if stored is None:
        raise UserError(f"{path} does not state which run it comes from: export it again from the run")
    modules.load_all(stored, path.parent)
    found = _decode(lambda run: from_dict(RunConfig, _read_run(run)), facts, _RUN, path)
    assert found is not None
    return found


def _read_run(stored: Any) -> dict[str, Any]:
    """Read the fields of a stored run, with sampler settings of an earlier version converted."""
    return convert_old_samplers(dict(stored))


def find_tokenizers_of_file(path: Path, facts: Mapping[str, str], given: Path | None) -> Path:
    """Find the tokenizers that the weights in `path` were trained with: `given`, a folder beside the file, or
    the shipped ones.

    Raises:
        UserError: none match, or the file does not state them and none are given.
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
        f"{path} was trained with other tokenizers than {where}: give its own (RUN/tokenizers of its run) "
        "with --tokenizers DIR"
    )


def _decode(read: Callable[[Any], Any], facts: Mapping[str, str], name: str, path: Path) -> Any:
    if name not in facts:
        return None
    try:
        return read(parse_json(facts[name]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({name}: {error}): export it again") from error
