"""Resume a run: compare it with its start, and apply permitted changes."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from trimask.config import from_dict, override
from trimask.errors import UserError
from trimask.model.weights import read_denoiser
from trimask.prepare.manifest import TOKENIZERS
from trimask.runs.kinds import kind_of
from trimask.tokenizer_training.data import RawSignals
from trimask.tokenizer_training.decoded import raw_signals
from trimask.tokenizer_training.image import ImageTokenizerRun
from trimask.tokenizer_training.kinds import TokenizerRun
from trimask.tokenizer_training.speech import SpeechTokenizerRun
from trimask.tokenizer_training.text import TextTokenizerRun
from trimask.tokenizers.bundle import SHIPPED, hashes
from trimask.training.checkpoint import Checkpoints
from trimask.training.run import RunConfig
from trimask.training.run_directory import CONFIG, INTERVALS, read_config

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"
EXTENDED = "extended"
MAY_CHANGE = (
    "run.compute",
    "run.evaluate_every",
    "run.sampler",
    "run.num_steps",  # upwards: `check_horizon`
    "run.data.folders",  # their manifests stay the same
    EXTENDED,
    *INTERVALS,
)
"""Fields that a resumed run may change."""


@final
@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a run directory records of the run's start.

    Attributes:
        tokenizers: SHA-256 of each, for a denoiser's run.
        weights: SHA-256 of the weights file that it started from, if any.
    """

    recipe: str
    config: RunConfig | TokenizerRun | TextTokenizerRun
    tokenizers: Mapping[str, str]
    weights: str | None
    extended: Sequence[Mapping[str, int]]


def read_start(run: Path) -> Begun | None:
    """Read the start of the run in directory `run`; None if no run was started.

    Raises:
        UserError: its config.json is damaged, or describes no run.
    """
    path = run / CONFIG
    if not os.path.lexists(path):
        return None
    stored = read_config(run)
    try:
        config = _stored(stored["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe a run ({error}): choose another folder") from error
    return Begun(
        recipe=str(stored.get("recipe")),
        config=config,
        tokenizers=stored.get("tokenizers", {}),
        weights=stored.get("weights"),
        extended=stored.get(EXTENDED, []),
    )


def _stored(fields: Mapping[str, Any]) -> RunConfig | TokenizerRun | TextTokenizerRun:
    if "model" in fields:
        return from_dict(RunConfig, fields)
    if "caption_repeats" in fields:
        return from_dict(TextTokenizerRun, fields)
    return from_dict(SpeechTokenizerRun if "vocoder" in fields else ImageTokenizerRun, fields)


def override_run(
    start: Begun, overrides: Mapping[str, str], data: Sequence[Path] = ()
) -> RunConfig | TokenizerRun | TextTokenizerRun:
    """Return the run's own configuration with `overrides`; `data` are the current folders of its data."""
    config = start.config
    if data and isinstance(config, RunConfig):
        config = replace(config, data=kind_of(config.data).moved(data))
    elif data and isinstance(config.data, RawSignals):
        now = raw_signals([str(source) for source in data], config.data.options)
        same = replace(config.data, sources=now.sources, fingerprints=now.fingerprints)
        config = replace(config, data=same)
    elif data:
        raise UserError("the run was started on the embedded data: leave --data out")
    return override(config, overrides)


def find_tokenizers(start: Begun, run: Path) -> Path:
    """Where the run's tokenizers are: in its directory, or as long as they are not, where they came from."""
    folders = [run / TOKENIZERS]
    if isinstance(start.config, RunConfig):
        folders += [folder / TOKENIZERS for folder in kind_of(start.config.data).folders]
    folders.append(SHIPPED)
    for folder in folders:
        try:
            if hashes(folder) == start.tokenizers:
                return folder
        except (FileNotFoundError, ValueError):
            continue
    raise UserError(
        f"{run / TOKENIZERS} are not the tokenizers that the run began with: give those with --tokenizers DIR"
    )


def carry_over(run: Path, config: RunConfig, *, has_weights: bool) -> dict[str, Any]:
    """Return what the `config.json` of a run resumed with `config` keeps of its start, besides the
    configuration: the horizons that it was extended to, and the hash of the weights that it began with.

    Raises:
        UserError: the horizon became shorter, the weights are needed again (`has_weights` is false), or only
            the trained model is there, such as in a shared folder.
    """
    start = read_start(run)
    if start is None or not isinstance(start.config, RunConfig):
        return {}
    check_horizon(start, config)
    has_checkpoint = bool(Checkpoints(run, config={}, keep=1).steps())
    kept: dict[str, Any] = {}
    longer = record_horizon(start, config, run)
    if longer:
        kept[EXTENDED] = longer
    if start.weights is not None and not has_weights:
        if not has_checkpoint:
            raise UserError(
                f"{run} was started from weights, and has no checkpoint yet: give them again with "
                "--weights FILE"
            )
        kept["weights"] = start.weights
    if not (has_checkpoint or has_weights) and _is_trained(run / MODEL):
        # Training from nothing would overwrite it.
        raise UserError(
            f"{run} holds a trained model and no checkpoint to resume: begin a new run with its weights, "
            f"--weights {run / MODEL} and another --out"
        )
    return kept


def _is_trained(model: Path) -> bool:
    """Return whether a model is there that has seen an update. UserError if the file is damaged."""
    return os.path.lexists(model) and read_denoiser(model)[1].get("steps") != "0"


def check_horizon(start: Begun, config: RunConfig) -> None:
    """Raise UserError if `config` would end the run earlier than it was started with."""
    assert isinstance(start.config, RunConfig)
    if config.num_steps < start.config.num_steps:
        raise UserError(
            f"the run was started with num_steps {start.config.num_steps}, and --num-steps "
            f"{config.num_steps} is less: leave it out, or give more (to stop sooner: --minutes, or Ctrl-C)"
        )


def record_horizon(start: Begun, config: RunConfig, run: Path) -> list[dict[str, int]]:
    """Return the record of the horizons that a run was extended to, newest last; log the effect of a new one.

    Weights and optimizer state continue; from the current update on, the learning rate, its schedule and the
    other values are those of the new horizon. Such a run differs from one planned at that length.
    """
    before = [dict(each) for each in start.extended]
    assert isinstance(start.config, RunConfig)
    if config.num_steps == start.config.num_steps:
        return before
    steps = Checkpoints(run, config={}, keep=1).steps()
    done = steps[-1] if steps else 0
    rates = [
        each.scaled_optimizer.learning_rate * each.lr_schedule.factor((done + 1) / each.num_updates)
        for each in (start.config, config)
    ]
    logger.warning(
        "the run goes on from update %d to %d instead of %d: from here on the learning rate follows the "
        "schedule of the longer run (now %.3g, without this %.3g). It is not the same as a run planned at "
        "this length",
        done,
        config.num_updates,
        start.config.num_updates,
        rates[1],
        rates[0],
    )
    return [*before, {"at_update": done, "num_steps_before": start.config.num_steps}]
