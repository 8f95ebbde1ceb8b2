"""From a name or a folder to a model that generates."""

import json
import os
from dataclasses import replace
from pathlib import Path

from trimask.config import from_dict, to_dict
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.model.weights import read_denoiser
from trimask.recipes.quickstart import quickstart
from trimask.runs.exported import (
    facts_of_run,
    lengths_of,
    samplers_in,
    samplers_of,
    seen_in,
    seen_of,
    tokenizers_for_file,
)
from trimask.runs.lengths import load_lengths
from trimask.runs.pretrain import MODEL, TOKENIZERS, build_denoiser
from trimask.runs.resume import MAY_CHANGE
from trimask.runs.seen import load_seen
from trimask.sampling.generate import Generator
from trimask.sampling.request import describe_value
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.checkpoint import NO_LONGER, Checkpoints
from trimask.training.compute import ComputeConfig
from trimask.training.run import RunConfig
from trimask.training.run_directory import CHECKPOINTS, CONFIG, read_config
from trimask.training.step import AVERAGE, WEIGHTS

QUICKSTART = Path(__file__).parents[1] / "assets" / "quickstart" / MODEL


def load(run: str | Path, *, tokenizers: str | Path | None = None, raw_prompts: bool = False) -> Generator:
    """A generator from `run`: a run directory, the folder of one of its checkpoints, a file that `trimask
    export` wrote, or `quickstart`, the model that ships.

    Args:
        tokenizers: of an exported file, where they are not those that ship.
        raw_prompts: take prompts as they are spelled, and say nothing of them: for scores.

    Raises:
        FileNotFoundError, UserError: no such run, or a file in it that is damaged or not ours; the
            message names it and the mend.
    """
    if not isinstance(run, str | Path):
        raise UserError(
            f"run is {describe_value(run)}: give a run's directory, an exported file, or 'quickstart'"
        )
    if not isinstance(tokenizers, str | Path | None):
        raise UserError(f"tokenizers is {describe_value(tokenizers)}: give a folder")
    run = _run_of_file(run)
    denoiser, facts = load_trained(run)
    path = Path(run)
    if tokenizers is not None and (_is_shipped(run) or not path.is_file()):
        raise UserError(f"tokenizers are for an exported file, and {run} has its own: leave them out")
    if _is_shipped(run):
        codecs, lengths, seen = Tokenizers.load(SHIPPED), None, load_seen(QUICKSTART.parent)
        samplers = quickstart().sampler
    elif path.is_file():
        given = None if tokenizers is None else Path(tokenizers)
        codecs = Tokenizers.load(tokenizers_for_file(path, facts, given))
        lengths, seen = lengths_of(facts, path), seen_of(facts, path)
        samplers = samplers_of(facts, path)
    else:
        folder = run_folder(run)
        codecs, lengths = tokenizers_of(folder), load_lengths(folder)
        seen = seen_in(folder)
        samplers = samplers_in(folder)
    return Generator(
        denoiser,
        text=codecs.text,
        image=codecs.image,
        speech=codecs.speech,
        lengths=lengths,
        samplers=samplers,
        seen=None if raw_prompts else seen,
    )


def load_trained(run: str | Path) -> tuple[Denoiser, dict[str, str]]:
    """The weights of `run`, as `load` takes it, or of a file that `trimask export` wrote; and what is said of
    them: `recipe`, `steps`.

    Of a run that is not finished, those of its newest whole checkpoint. Raises as `load`.
    """
    if _is_shipped(run):
        if not QUICKSTART.exists():
            raise FileNotFoundError(
                f"the shipped model is missing at {QUICKSTART}: install the package again, or train your own"
            )
        return read_denoiser(QUICKSTART)
    if Path(run).is_file():
        return read_denoiser(Path(run))
    if not Path(run).is_dir():
        if _run_and_step(Path(run))[1] is not None:
            raise FileNotFoundError(f"{run} {NO_LONGER}")
        raise FileNotFoundError(
            f"{run} is no run directory: give one that `trimask train` made, or `quickstart`"
        )
    folder, step = _run_and_step(Path(run))
    if not os.path.lexists(folder / CONFIG) or not (folder / TOKENIZERS).is_dir():
        raise UserError(f"{folder} is not a run directory: it has no config.json and tokenizers/")
    if step is None and os.path.lexists(folder / MODEL):
        return read_denoiser(folder / MODEL)
    return _load_checkpoint(folder, step)


def run_folder(run: str | Path) -> Path:
    """The run directory of `run`, as `load` takes it."""
    return _run_and_step(Path(run))[0]


def facts_of(run: str | Path) -> dict[str, str]:
    """What an export of `run`, as `load` takes it, says beside recipe and steps."""
    run = _run_of_file(run)
    if _is_shipped(run):
        return {**facts_of_run(QUICKSTART.parent, SHIPPED), "run": json.dumps(to_dict(quickstart()))}
    if Path(run).is_file():
        return {}
    folder = run_folder(run)
    return facts_of_run(folder, folder / TOKENIZERS)


def _run_of_file(run: str | Path) -> str | Path:
    """The weights that a run leaves in its directory stand for the run."""
    path = Path(run)
    is_in_run = path.name == MODEL and path.is_file() and (path.parent / CONFIG).exists()
    return path.parent if is_in_run else run


def run_config(folder: Path) -> RunConfig:
    """The configuration of a run of the denoiser. UserError or FileNotFoundError if it is damaged."""
    stored = read_config(folder)
    try:
        return from_dict(RunConfig, stored["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CONFIG} does not describe a run of the denoiser ({error}): give another folder"
        ) from error


def tokenizers_of(folder: Path) -> Tokenizers:
    """The tokenizers of a run, if they are those that it began with. Raises as `Tokenizers.load`."""
    expected = read_config(folder).get("tokenizers")
    is_listed = isinstance(expected, dict) and all(isinstance(item, str) for item in expected.values())
    return Tokenizers.load(folder / TOKENIZERS, expected=expected if is_listed else None)


def _is_shipped(run: str | Path) -> bool:
    return str(run) == "quickstart" and not Path(run).is_dir()


def _run_and_step(folder: Path) -> tuple[Path, int | None]:
    """A run directory as it is; of a checkpoint's folder, its run and step."""
    name = folder.resolve().name.removeprefix("step_")
    if folder.resolve().parent.name == CHECKPOINTS and name.isdecimal():
        return folder.resolve().parents[1], int(name)
    return folder, None


def _load_checkpoint(folder: Path, step: int | None) -> tuple[Denoiser, dict[str, str]]:
    """Of `step`, or the newest whole one."""
    stored = read_config(folder)
    # Whatever it was computed on: here it is for generating, on one device.
    config = run_config(folder)
    checkpoints = Checkpoints(folder, config={**stored, "run": config}, keep=1, may_change=MAY_CHANGE)
    config = replace(config, compute=ComputeConfig())
    denoiser = build_denoiser(config, tokenizers_of(folder))
    prefix = WEIGHTS if config.average is None else AVERAGE
    weights = {f"{prefix}{name}": tensor for name, tensor in denoiser.state_dict().items()}
    found = checkpoints.peek_newest(weights) if step is None else checkpoints.load_step(step, weights)
    if found is None:
        raise UserError(
            f"{folder} has no checkpoint yet: let it train until the first one (checkpoint_every steps)"
        )
    return denoiser.eval(), {"recipe": str(stored.get("recipe")), "steps": str(found.step)}
