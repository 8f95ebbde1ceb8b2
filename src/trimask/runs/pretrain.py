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
from trimask.errors import UserError
from trimask.model.weights import check_fit, check_tokenizers, read_denoiser, save_denoiser
from trimask.runs.build import build_denoiser, build_step, build_stream
from trimask.runs.kinds import kind_of
from trimask.runs.lengths import LENGTHS, save_lengths
from trimask.runs.resume import MAY_CHANGE, MODEL, carry_over
from trimask.runs.seen import SEEN, save_seen
from trimask.runs.validation import build_validation
from trimask.tokenizers.bundle import SHIPPED, Tokenizers, check_bundle, copy_tokenizer, hashes
from trimask.training.distributed import ALONE, World
from trimask.training.loop import TrainResult, train
from trimask.training.placement import release
from trimask.training.run import RunConfig
from trimask.training.run_directory import CONFIG, open_run

logger = logging.getLogger(__name__)

_PATIENCE = 30  # seconds

TOKENIZERS, TOKENS = "tokenizers", "tokens"
LEFTOVERS = (TOKENIZERS, TOKENS, LENGTHS, SEEN)
"""Files that a run writes before computing anything; they can be recreated."""


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
    kind = kind_of(config.data)
    tokenizers = Tokenizers.load(tokenizer_folder)
    vocabulary = config.vocabulary(kind.spaces(tokenizers))  # check that it fits before data is read
    kind.check_run(config, vocabulary)
    resolved = {"recipe": recipe, "run": config, "tokenizers": hashes(tokenizer_folder)}
    initial = None
    if weights is not None:
        initial, metadata = read_denoiser(weights)
        check_fit(initial, config.model, vocabulary)
        check_tokenizers(weights, metadata, resolved["tokenizers"])
        resolved["weights"] = io.sha256(weights)
    with ExitStack() as held:
        with world.main_first():
            if world.is_main:
                # Two processes started on one run would overwrite each other.
                held.enter_context(locks.lock(out))
                io.remove_partial(out)
        if resume:
            resolved |= world.run_on_main(lambda: carry_over(out, config, has_weights=weights is not None))
        open_run(out, resolved, resume=resume, may_change=MAY_CHANGE, leftovers=LEFTOVERS, world=world)
        world.each(lambda: _check_visible(out / CONFIG))
        kind.check(vocabulary, report, world)
        with world.main_first():  # the others find what it has encoded
            if world.is_main and tokens is not None:
                shutil.copytree(tokens, out / TOKENS, dirs_exist_ok=True)
            sources = kind.sources(tokenizers, "train", out / TOKENS, report)
            held_out = kind.sources(tokenizers, "validation", out / TOKENS, report)
            if world.is_main:
                _keep_tokenizers(tokenizer_folder, out / TOKENIZERS)
                lengths = kind.lengths(config, sources, tokenizers)
                if lengths is not None:
                    save_lengths(out, lengths)
                if not (out / SEEN).exists():
                    save_seen(out, kind.seen(config, sources, tokenizers, report))
        denoiser = build_denoiser(config, vocabulary, world)
        if initial is not None:
            denoiser.take(initial)
            del initial
        stream = build_stream(config, sources, vocabulary)
        step = build_step(config, denoiser, stream, world)
        evaluate = build_validation(config, held_out, step)
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


def _keep_tokenizers(source: Path, kept: Path) -> None:
    """Copy the tokenizers into the run; set damaged copies aside and copy again."""
    if kept.exists():
        try:
            check_bundle(kept, hashes(source))
            return
        except (ValueError, FileNotFoundError) as error:
            aside = io.set_aside(kept)
            logger.warning("%s; set aside as %s, and copied again from %s", error, aside, source)
    copy_tokenizer(source, kept)
