"""A recipe becomes a run: tokenize, build, train, export."""

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
from trimask.data.selection import PreparedData, QuickstartData
from trimask.data.stream import TrainingStream
from trimask.data.tokens import ExampleSource
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.model.weights import check_fit, check_tokenizers, read_denoiser, save_denoiser
from trimask.runs.lengths import LENGTHS, fit_lengths, save_lengths
from trimask.runs.resume import EXTENDED, MAY_CHANGE, begun, check_horizon, extended
from trimask.runs.seen import SEEN, fit_seen, save_seen, seen_of_embedded
from trimask.runs.sources import check_data, token_sources
from trimask.runs.validation import validation
from trimask.runs.vocabulary import vocabulary_of
from trimask.sampling.prompts import Seen
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
"""What a run writes before it computes anything: can be made anew."""


def build_denoiser(config: RunConfig, tokenizers: Tokenizers, world: World = ALONE) -> Denoiser:
    """The untrained denoiser of a run, over the tokenizers' vocabulary, on the devices of `world` (one CPU
    process by default).
    """
    return place(
        config.model,
        vocabulary_of(config, tokenizers),
        seed=config.seed,
        compute=config.compute,
        world=world,
    )


def build_stream(
    config: RunConfig, sources: Mapping[str, ExampleSource], vocabulary: Vocabulary
) -> TrainingStream:
    """The batches of a run, drawn from its sources."""
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
    """The update of a run on the batches of `stream`, with nothing done yet."""
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
    """Run `config` in the directory `out`, and leave there a model that `trimask.load(out)` can use.

    The directory holds its tokenizers, the tokenized data (of prepared data, which stays where it is, the
    lengths of spans), what prompts need to know of the data, checkpoints, metrics and at the end
    `model.safetensors`, so that it can be moved and resumed alone, on other devices and by more or fewer
    processes. All processes of `world` call this. With `weights`, a file that `trimask export` wrote, it
    starts from them; to resume it is not needed again. With `tokens`, the folder of a run on the same data,
    it takes over what that encoded. `report` is told what is done before the first update, and an empty
    message at its end.
    """
    if world.is_main:
        for caution in config.batch_rule.cautions(config.batch_change):
            logger.warning("%s", caution)
    tokenizers = Tokenizers.load(tokenizer_folder)
    vocabulary = vocabulary_of(config, tokenizers)  # whether it fits, before data is read
    resolved = {"recipe": recipe, "run": config, "tokenizers": hashes(tokenizer_folder)}
    initial = None
    if weights is not None:
        initial, metadata = read_denoiser(weights)
        check_fit(initial, config.model, vocabulary)
        check_tokenizers(weights, metadata, resolved["tokenizers"])
        resolved["weights"] = io.sha256(weights)
    with ExitStack() as held:
        # A run that was started twice would write over itself.
        world.run_on_main(lambda: held.enter_context(locks.locked(out)))
        world.run_on_main(lambda: io.remove_partial(out))
        if resume:
            resolved |= world.run_on_main(lambda: _began_with(out, config, has_weights=weights is not None))
        open_run(out, resolved, resume=resume, may_change=MAY_CHANGE, leftovers=LEFTOVERS, world=world)
        world.each(lambda: _see(out / CONFIG))
        if tokens is not None:
            world.run_on_main(lambda: shutil.copytree(tokens, out / TOKENS, dirs_exist_ok=True))
        check_data(config, tokenizers, report, world)
        sources = world.run_main_first(
            lambda: _sources(config, tokenizers, tokenizer_folder, out, report, keeps=world.is_main)
        )
        denoiser = build_denoiser(config, tokenizers, world)
        if initial is not None:
            denoiser.take(initial)
            del initial
        stream = build_stream(config, sources, denoiser.vocabulary)
        step = build_step(config, denoiser, stream, world)
        evaluate = world.run_main_first(lambda: validation(config, tokenizers, step, out / TOKENS, report))
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
            resume=True,  # `open_run` has settled whether this directory may be used
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


def _began_with(out: Path, config: RunConfig, *, has_weights: bool) -> dict[str, Any]:
    """What a run that goes on keeps of its start, beside its configuration."""
    start = begun(out)
    if start is None or not isinstance(start.config, RunConfig):
        return {}
    check_horizon(start, config)
    kept: dict[str, Any] = {}
    longer = extended(start, config, out)
    if longer:
        kept[EXTENDED] = longer
    if start.weights is not None and not has_weights:
        if not Checkpoints(out, config={}, keep=1).steps():
            raise UserError(
                f"{out} was to start from weights, and has no checkpoint yet: give them again with "
                "--weights FILE"
            )
        kept["weights"] = start.weights
    return kept


def _see(file: Path) -> None:
    """UserError if what the main process has just written is not seen by this one, on another machine."""
    for _ in range(_PATIENCE):
        if file.exists():
            return
        time.sleep(1)  # a network's file system may be late
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
    sources = token_sources(config.data, tokenizers, "train", out / TOKENS, report=report)
    if keeps:
        _keep_tokenizers(tokenizer_folder, out / TOKENIZERS)
        if isinstance(config.data, PreparedData):
            lengths = fit_lengths(
                sources,
                tokenizers,
                slack=config.slack,
                text_window=config.data.text_window,
                seed=config.seed,
                spaces=config.spaces,
            )
            save_lengths(out, lengths)
        if not (out / SEEN).exists():
            save_seen(out, _seen(config, sources, tokenizers, report))
    return sources


def _seen(
    config: RunConfig,
    sources: Mapping[str, ExampleSource],
    tokenizers: Tokenizers,
    report: Callable[[str], None],
) -> Seen:
    components = config.mixture.components
    if isinstance(config.data, QuickstartData):
        return seen_of_embedded(config.data, components)
    return fit_seen(sources, components, tokenizers.text, seed=config.seed, report=report)


def _keep_tokenizers(source: Path, kept: Path) -> None:
    """Copy the tokenizers into the run; what is damaged there is set aside, and copied again."""
    if kept.exists():
        try:
            return check(kept, hashes(source))
        except (ValueError, FileNotFoundError) as error:
            aside = io.set_aside(kept)
            logger.warning("%s; set aside as %s, and copied again from %s", error, aside, source)
    copy_tokenizer(source, kept)
