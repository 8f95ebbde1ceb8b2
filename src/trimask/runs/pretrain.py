"""Run a recipe: tokenize, build, train, export."""

import json
import logging
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trimask import io, locks
from trimask.data.loader import load
from trimask.data.mixture import Mixture
from trimask.data.source import ExampleSource
from trimask.data.stream import TrainingStream
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.model.weights import check_fit, check_tokenizers, read_denoiser, save_denoiser
from trimask.runs.kinds import kind_of
from trimask.runs.lengths import LENGTHS, save_lengths
from trimask.runs.resume import EXTENDED, MAY_CHANGE, check_horizon, read_start, record_horizon
from trimask.runs.seen import SEEN, save_seen
from trimask.runs.validation import build_validation
from trimask.runs.vocabulary import build_vocabulary
from trimask.tokenizers.bundle import SHIPPED, Tokenizers, check, copy_tokenizer, hashes
from trimask.training.checkpoint import Checkpoints
from trimask.training.distributed import ALONE, World
from trimask.training.loop import TrainResult, train
from trimask.training.placement import place, release
from trimask.training.run import RunConfig
from trimask.training.run_directory import CONFIG, open_run
from trimask.training.step import DenoiserStep
from trimask.vocabulary.layout import Vocabulary

logger = logging.getLogger(__name__)

_PATIENCE = 30  # seconds

MODEL = "model.safetensors"
TOKENIZERS, TOKENS = "tokenizers", "tokens"
LEFTOVERS = (TOKENIZERS, TOKENS, LENGTHS, SEEN)
"""Files that a run writes before computing anything; they can be recreated."""


def build_denoiser(config: RunConfig, tokenizers: Tokenizers, world: World = ALONE) -> Denoiser:
    """Build the untrained denoiser of a run over the tokenizers' vocabulary, on the devices of `world` (one
    CPU process by default).
    """
    return place(
        config.model,
        build_vocabulary(config, tokenizers),
        seed=config.seed,
        compute=config.compute,
        world=world,
    )


def build_stream(
    config: RunConfig, sources: Mapping[str, ExampleSource], vocabulary: Vocabulary
) -> TrainingStream:
    """Build the batches of a run from its sources."""
    return TrainingStream(
        Mixture(config.mixture, sources, config.seed, tasks=config.tasks),
        vocabulary,
        slack=config.slack,
        text_window=config.data.text_window,
        physical_batch=config.distinct_batch,
        row_length=config.row_length,
    )


def build_step(
    config: RunConfig, denoiser: Denoiser, stream: TrainingStream, world: World = ALONE
) -> DenoiserStep:
    """Build the update step of a run on the batches of `stream`."""
    return DenoiserStep(
        denoiser,
        objective=config.objective,
        optimizer=config.scaled_optimizer,
        lr_schedule=config.lr_schedule,
        num_steps=config.num_updates,
        seed=config.seed,
        targets=stream.target_tokens(),
        tasks=stream.tasks,
        modalities=config.modalities,
        logical_batch=config.logical_batch // config.objective.num_views,
        micro_batch=config.compute.micro_batch,
        non_finite=config.non_finite,
        average=config.average,
        batch=config.update_batch,
        world=world,
    )


def pretrain(
    config: RunConfig,
    out: Path,
    *,
    recipe: str,
    tokenizer_folder: Path = SHIPPED,
    weights: Path | None = None,
    tokens: Path | None = None,
    resume: bool = False,
    deadline: float | None = None,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[int, Mapping[str, Any]], None] | None = None,
    world: World = ALONE,
) -> TrainResult:
    """Run `config` in the directory `out`, and save there a model for `trimask.load(out)`.

    The directory holds the tokenizers, the tokenized embedded data or the span lengths of prepared data
    (which stays in place), prompt statistics, checkpoints, metrics and finally `model.safetensors`; it can be
    moved and resumed on its own, on other devices and by any number of processes. All processes of `world`
    make this call. The run starts from `weights`, an exported file, if given (not needed to resume), and
    reuses the encoded data in `tokens`, the folder of a run on the same data. `report` receives progress
    messages before the first update, then an empty one.
    """
    if world.is_main:
        for caution in config.batch_rule.cautions(config.batch_change):
            logger.warning("%s", caution)
    tokenizers = Tokenizers.load(tokenizer_folder)
    vocabulary = build_vocabulary(config, tokenizers)  # check that it fits before data is read
    resolved = {"recipe": recipe, "run": config, "tokenizers": hashes(tokenizer_folder)}
    initial = None
    if weights is not None:
        initial, metadata = read_denoiser(weights)
        check_fit(initial, config.model, vocabulary)
        check_tokenizers(weights, metadata, resolved["tokenizers"])
        resolved["weights"] = io.sha256(weights)
    with ExitStack() as held:
        # Two processes started on one run would overwrite each other.
        world.run_on_main(lambda: held.enter_context(locks.lock(out)))
        world.run_on_main(lambda: io.remove_partial(out))
        if resume:
            resolved |= world.run_on_main(lambda: _record_start(out, config, has_weights=weights is not None))
        open_run(out, resolved, resume=resume, may_change=MAY_CHANGE, leftovers=LEFTOVERS, world=world)
        world.each(lambda: _check_visible(out / CONFIG))
        if tokens is not None:
            world.run_on_main(lambda: shutil.copytree(tokens, out / TOKENS, dirs_exist_ok=True))
        kind_of(config.data).check(config, tokenizers, report, world)
        sources = world.run_main_first(
            lambda: _sources(config, tokenizers, tokenizer_folder, out, report, keeps=world.is_main)
        )
        denoiser = build_denoiser(config, tokenizers, world)
        if initial is not None:
            denoiser.take(initial)
            del initial
        stream = build_stream(config, sources, denoiser.vocabulary)
        step = build_step(config, denoiser, stream, world)
        evaluate = world.run_main_first(
            lambda: build_validation(config, tokenizers, step, out / TOKENS, report)
        )
        report("")
        result = train(
            step,
            lambda start: load(
                stream,
                start,
                rank=world.rank,
                num_parts=world.size,
                num_workers=config.compute.data_workers_on(world.device),
            ),
            out=out,
            config=resolved,
            may_change=MAY_CHANGE,
            num_steps=config.num_updates,
            checkpoint_every=config.checkpoint_every,
            log_every=config.log_every,
            resume=True,  # `open_run` has checked that this directory may be used
            deadline=deadline,
            evaluate=evaluate,
            evaluate_every=None if evaluate is None else config.evaluate_every,
            describe=recipe,
            on_progress=on_progress,
            world=world,
        )
        release(denoiser)
        with step.use_average():
            save_denoiser(
                out / MODEL,
                denoiser,
                is_main=world.is_main,
                recipe=recipe,
                steps=str(result.steps),
                tokenizers=json.dumps(resolved["tokenizers"]),
            )
        return result


def _record_start(out: Path, config: RunConfig, *, has_weights: bool) -> dict[str, Any]:
    """Return what a resumed run keeps from its start, besides its configuration."""
    start = read_start(out)
    if start is None or not isinstance(start.config, RunConfig):
        return {}
    check_horizon(start, config)
    kept: dict[str, Any] = {}
    longer = record_horizon(start, config, out)
    if longer:
        kept[EXTENDED] = longer
    if start.weights is not None and not has_weights:
        if not Checkpoints(out, config={}, keep=1).steps():
            raise UserError(
                f"{out} was started from weights, and has no checkpoint yet: give them again with "
                "--weights FILE"
            )
        kept["weights"] = start.weights
    return kept


def _check_visible(file: Path) -> None:
    """Raise UserError if this process, on another machine, does not see what the main process has just
    written."""
    for _ in range(_PATIENCE):
        if file.exists():
            return
        time.sleep(1)  # a network file system may be late
    raise UserError(
        f"{socket.gethostname()} does not see {file}: give a --out on a file system that all machines share"
    )


def _sources(
    config: RunConfig,
    tokenizers: Tokenizers,
    tokenizer_folder: Path,
    out: Path,
    report: Callable[[str], None],
    *,
    keeps: bool,
) -> Mapping[str, ExampleSource]:
    """The training data; with `keeps`, what a run keeps of it and of the tokenizers is written to `out`."""
    kind = kind_of(config.data)
    sources = kind.sources(tokenizers, "train", out / TOKENS, report)
    if keeps:
        _keep_tokenizers(tokenizer_folder, out / TOKENIZERS)
        lengths = kind.lengths(config, sources, tokenizers)
        if lengths is not None:
            save_lengths(out, lengths)
        if not (out / SEEN).exists():
            save_seen(out, kind.seen(config, sources, tokenizers, report))
    return sources


def _keep_tokenizers(source: Path, kept: Path) -> None:
    """Copy the tokenizers into the run; set damaged copies aside and copy again."""
    if kept.exists():
        try:
            check(kept, hashes(source))
            return
        except (ValueError, FileNotFoundError) as error:
            aside = io.set_aside(kept)
            logger.warning("%s; set aside as %s, and copied again from %s", error, aside, source)
    copy_tokenizer(source, kept)
