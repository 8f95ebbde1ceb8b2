"""Load a model by name or folder."""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from trimask.config import from_dict
from trimask.errors import UserError
from trimask.generation.generate import Generator
from trimask.generation.request import describe_value
from trimask.model.denoiser import Denoiser
from trimask.model.weights import read_denoiser
from trimask.runs.build import build_denoiser, build_vocabulary
from trimask.runs.exported import (
    collect_facts,
    find_tokenizers_of_file,
    load_samplers,
    read_lengths,
    read_presets_of_file,
    read_run_config,
    read_samplers,
    read_seen,
    seen_in,
)
from trimask.runs.hub import fetch, is_hub_name
from trimask.runs.lengths import load_lengths
from trimask.runs.presets import PRESETS, Presets, load_presets
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.runs.resume import MAY_CHANGE
from trimask.runs.seen import load_seen
from trimask.sampling.backends import TORCH, find_backend
from trimask.sampling.config import SamplerConfig
from trimask.sampling.predictor import PartialPredictor
from trimask.sampling.recompute import Everything
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.checkpoint import NO_LONGER, Checkpoints
from trimask.training.compute import ComputeConfig
from trimask.training.run import RunConfig
from trimask.training.run_directory import CHECKPOINTS, CONFIG, read_config
from trimask.training.step import AVERAGE, WEIGHTS
from trimask.trust import distrust

QUICKSTART = Path(__file__).parents[1] / "assets" / "quickstart" / MODEL


def load(
    run: str | Path,
    *,
    tokenizers: str | Path | None = None,
    backend: str = TORCH,
    preset: str | None = None,
    raw_prompts: bool = False,
    revision: str | None = None,
    trust_code: bool = False,
) -> Generator:
    """Load a generator from `run`: a run directory, one of its checkpoint folders, a file or folder written
    by `trimask export`, `quickstart`, the shipped model, or the name of a model on the hub, `owner/name`.

    Args:
        tokenizers: for an exported file, if they are not the shipped ones.
        backend: what computes predictions, a name in `BACKENDS`.
        preset: sampler settings in place of the run's own: a name such as `balanced` in the run's presets, or
            FILE:NAME in those that `trimask study run sampling` wrote. A backend that keeps no keys and
            values computes everything, whatever the preset recomputes.
        raw_prompts: use prompts exactly as given, without warnings, for scoring.
        revision: of a model on the hub: a branch, tag or commit.
        trust_code: whether user code that a model on the hub needs is run. Without it, loading raises an
            error unless this process has imported the same code already. Code of local folders is always run.

    Raises:
        FileNotFoundError, UserError: no such run, or a damaged or foreign file in it; the message names it
            and the remedy.
        ImportError: the backend's extra is not installed.
    """
    loaded = _load(
        run,
        tokenizers=tokenizers,
        backend=backend,
        preset=preset,
        raw_prompts=raw_prompts,
        revision=revision,
        trust_code=trust_code,
    )
    return loaded.generator


def load_with_presets(
    run: str | Path, *, backend: str = TORCH, preset: str | None = None, warn: Callable[[str], None]
) -> tuple[Generator, Mapping[str, Mapping[str, SamplerConfig]]]:
    """Load a generator, and beside it the sampler settings of `run` by preset name and task name; none if it
    has none. The weights, which presets are checked against, are read once.

    Args:
        warn: told why presets cannot be used; they are none then.

    Raises like `load`.
    """
    if is_hub_name(run):
        with distrust(str(run)):
            return load_with_presets(fetch(str(run), None), backend=backend, preset=preset, warn=warn)
    loaded = _load(run, backend=backend, preset=preset)
    try:
        own = _find_own_presets(loaded.run, loaded.denoiser, loaded.facts)
    except UserError as error:
        warn(str(error))
        own = None
    return loaded.generator, {} if own is None else own.presets


class _Loaded(NamedTuple):
    generator: Generator
    run: str | Path
    denoiser: Denoiser
    facts: Mapping[str, str]


def _load(
    run: str | Path,
    *,
    tokenizers: str | Path | None = None,
    backend: str = TORCH,
    preset: str | None = None,
    raw_prompts: bool = False,
    revision: str | None = None,
    trust_code: bool = False,
) -> _Loaded:
    if not isinstance(run, str | Path):
        raise UserError(
            f"run is {describe_value(run)}: give a run's directory, an exported file, or 'quickstart'"
        )
    if not isinstance(tokenizers, str | Path | None):
        raise UserError(f"tokenizers is {describe_value(tokenizers)}: give a folder")
    if not isinstance(preset, str | None):
        raise UserError(f"preset is {describe_value(preset)}: give a name, or FILE:NAME")
    make_predictor = find_backend(backend)
    if is_hub_name(run):
        if tokenizers is not None:
            raise UserError(f"tokenizers are for an exported file, and {run} has its own: leave them out")
        folder = fetch(str(run), revision)
        with nullcontext() if trust_code else distrust(str(run)):
            return _load(folder, backend=backend, preset=preset, raw_prompts=raw_prompts)
    if revision is not None or trust_code:
        name = "trust_code" if revision is None else "revision"
        raise UserError(f"{name} is for a model on the hub, and {run} is none: leave it out")
    run = _run_of_file(run)
    denoiser, facts = load_trained(run)
    path = Path(run)
    if tokenizers is not None and (_is_shipped(run) or not path.is_file()):
        raise UserError(f"tokenizers are for an exported file, and {run} has its own: leave them out")
    if _is_shipped(run):
        codecs, lengths, seen = Tokenizers.load(SHIPPED), None, load_seen(QUICKSTART.parent)
        samplers = read_samplers(facts, QUICKSTART)
    elif path.is_file():
        given = None if tokenizers is None else Path(tokenizers)
        codecs = Tokenizers.load(find_tokenizers_of_file(path, facts, given))
        lengths, seen = read_lengths(facts, path), read_seen(facts, path)
        samplers = read_samplers(facts, path)
    else:
        folder = find_run_folder(run)
        codecs, lengths = load_tokenizers_of(folder), load_lengths(folder)
        seen = seen_in(folder)
        samplers = load_samplers(folder)
    predictor = make_predictor(denoiser)
    tuned = None
    if preset is not None:
        tuned = _find_preset(preset, run, denoiser, facts)
        samplers = {**samplers, **tuned}
        if not isinstance(predictor, PartialPredictor):  # it keeps no keys and values
            samplers = {task: replace(law, recompute=Everything()) for task, law in samplers.items()}
    generator = Generator(
        denoiser,
        text=codecs.text,
        image=codecs.image,
        speech=codecs.speech,
        lengths=lengths,
        samplers=samplers,
        seen=None if raw_prompts else seen,
        predictor=predictor,
        tuned=tuned,
    )
    return _Loaded(generator, run, denoiser, facts)


def find_presets_file(run: str | Path) -> Path | None:
    """Return where the presets of `run` (as in `load`) are, if it has any; None for an exported file, which
    has them within.
    """
    if _is_shipped(run):
        return QUICKSTART.parent / PRESETS
    run = _run_of_file(run)
    return None if Path(run).is_file() else find_run_folder(run) / PRESETS


def _find_preset(
    preset: str,
    run: str | Path,
    denoiser: Denoiser,
    facts: Mapping[str, str],
) -> Mapping[str, SamplerConfig]:
    file, colon, name = preset.rpartition(":")
    found = load_presets(Path(file), denoiser) if colon else _find_own_presets(run, denoiser, facts)
    if found is None:
        raise UserError(
            f"preset {preset!r}: {run} has no presets of its own: make them with `trimask study run sampling "
            f"--run {run} --out DIR`, and give DIR/{PRESETS}:{name}"
        )
    chosen = found.find(name)
    known = [task.name for task in denoiser.vocabulary.tasks]
    if unknown := [task for task in chosen if task not in known]:
        raise UserError(
            f"preset {preset!r} is for task {', '.join(unknown)}, and {run} has only {', '.join(known)}: "
            "name one of these there"
        )
    return chosen


def load_trained(run: str | Path) -> tuple[Denoiser, dict[str, str]]:
    """Load the weights of `run` (as in `load`) or of an exported file, and their facts: `recipe`, `steps`.

    An unfinished run gives its newest intact checkpoint. Raises like `load`.
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
            f"{run} is not a run directory: give one that `trimask train` made, or `quickstart`"
        )
    folder, step = _run_and_step(Path(run))
    if not os.path.lexists(folder / CONFIG) or not (folder / TOKENIZERS).is_dir():
        raise UserError(f"{folder} is not a run directory: it has no config.json and tokenizers/")
    if step is None and os.path.lexists(folder / MODEL):
        return read_denoiser(folder / MODEL)
    return _load_checkpoint(folder, step)


def find_run_folder(run: str | Path) -> Path:
    """Return the run directory of `run` (as in `load`)."""
    return _run_and_step(Path(run))[0]


def read_facts(run: str | Path) -> dict[str, str]:
    """Return the export metadata of `run` (as in `load`), besides recipe and steps."""
    run = _run_of_file(run)
    if _is_shipped(run):
        return collect_facts(QUICKSTART.parent, SHIPPED)
    if Path(run).is_file():
        return {}
    folder = find_run_folder(run)
    return collect_facts(folder, folder / TOKENIZERS)


def _run_of_file(run: str | Path) -> str | Path:
    """Map the weights file in a run's directory to the run."""
    path = Path(run)
    is_in_run = path.name == MODEL and path.is_file() and (path.parent / CONFIG).exists()
    return path.parent if is_in_run else run


def load_config_of(run: str | Path) -> RunConfig:
    """Return the configuration of `run` (as in `load`), or of the run that an exported file comes from."""
    path = QUICKSTART if _is_shipped(run) else Path(run)
    if path.is_file():
        return read_run_config(load_trained(run)[1], path)
    return load_run_config(find_run_folder(run))


def load_run_config(folder: Path) -> RunConfig:
    """Read the configuration of a denoiser's run. UserError or FileNotFoundError if it is damaged."""
    stored = read_config(folder)
    try:
        return from_dict(RunConfig, stored["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CONFIG} does not describe a run of the denoiser ({error}): give another folder"
        ) from error


def load_tokenizers_of(folder: Path) -> Tokenizers:
    """Load the tokenizers of a run, checked to be those it started with. Raises like `Tokenizers.load`."""
    expected = read_config(folder).get("tokenizers")
    is_listed = isinstance(expected, dict) and all(isinstance(item, str) for item in expected.values())
    return Tokenizers.load(folder / TOKENIZERS, expected=expected if is_listed else None)


def _is_shipped(run: str | Path) -> bool:
    return str(run) == "quickstart" and not Path(run).is_dir()


def _run_and_step(folder: Path) -> tuple[Path, int | None]:
    """Return a run directory unchanged, or the run and step of a checkpoint folder."""
    name = folder.resolve().name.removeprefix("step_")
    if folder.resolve().parent.name == CHECKPOINTS and name.isdecimal():
        return folder.resolve().parents[1], int(name)
    return folder, None


def _load_checkpoint(folder: Path, step: int | None) -> tuple[Denoiser, dict[str, str]]:
    """Load the checkpoint of `step`, or the newest intact one."""
    stored = read_config(folder)
    # Generation uses one device, whatever the run was computed on.
    config = load_run_config(folder)
    checkpoints = Checkpoints(folder, config={**stored, "run": config}, keep=1, may_change=MAY_CHANGE)
    config = replace(config, compute=ComputeConfig())
    denoiser = build_denoiser(config, build_vocabulary(config, load_tokenizers_of(folder)))
    prefix = WEIGHTS if config.average is None else AVERAGE
    weights = {f"{prefix}{name}": tensor for name, tensor in denoiser.state_dict().items()}
    found = checkpoints.peek_newest(weights) if step is None else checkpoints.load_step(step, weights)
    if found is None:
        raise UserError(
            f"{folder} has no checkpoint yet: let it train until the first one (checkpoint_every steps)"
        )
    return denoiser.eval(), {"recipe": str(stored.get("recipe")), "steps": str(found.step)}


def _find_own_presets(run: str | Path, denoiser: Denoiser, facts: Mapping[str, str]) -> Presets | None:
    own = find_presets_file(run)
    if own is None:
        return read_presets_of_file(facts, Path(run))
    return load_presets(own, denoiser) if os.path.lexists(own) else None
