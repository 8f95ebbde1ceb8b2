"""Train a denoiser as a trial, and evaluate it on held-out sequences."""

import atexit
import functools
from collections.abc import Sequence as Rows
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trimask import devices, rng
from trimask.data.mixture import MixtureConfig
from trimask.data.stream import TrainingStream
from trimask.errors import UserError
from trimask.evaluation.likelihood import sequence_nelbo, target_tokens
from trimask.model.denoiser import Denoiser
from trimask.runs.build import build_denoiser, build_step, build_stream, build_vocabulary
from trimask.runs.validation import draw_sequences
from trimask.studies.study import ALL
from trimask.studies.tokens import load_sources, load_tokenizers
from trimask.training import loop
from trimask.training.distributed import ALONE, World, open_world
from trimask.training.noise_scale import measure_denoiser_noise_scale
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence
from trimask.vocabulary.slots import SlotTables

_NUM_HELD_OUT = 256
_NUM_MASKS = 4
_EVALUATED_TOGETHER = 16
_NATS = 1 / np.log(2)


def train(config: RunConfig, folder: Path, tokens: Path) -> tuple[DenoiserStep, TrainingStream]:
    """Train a run in `folder`, resuming a stopped one; return its step and stream. On the first GPU that this
    process sees, if any.

    Raises:
        NonFiniteLoss: the run diverged.
        KeyboardInterrupt: it was interrupted, after saving a checkpoint.
    """
    tokenizers = load_tokenizers(config)
    world = _join_world() if devices.count_gpus() else ALONE
    denoiser = build_denoiser(config, build_vocabulary(config, tokenizers), world)
    stream = build_stream(config, load_sources(config, tokenizers, "train", tokens), denoiser.vocabulary)
    step = build_step(config, denoiser, stream, world)
    result = loop.train(
        step,
        stream.batches,
        out=folder,
        config={"run": config},
        num_steps=config.num_updates,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        resume=folder.exists(),
        is_quiet=True,  # the study shows its own progress
        world=world,
    )
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    return step, stream


@functools.cache  # the trials of a process share one group of processes
def _join_world() -> World:
    """Return this process as a world on its GPU, until it ends."""
    held = ExitStack()
    atexit.register(held.close)
    return held.enter_context(open_world())


def unshard(denoiser: Denoiser) -> Denoiser:
    """Return a whole copy of a sharded denoiser on its device, for what a sharded one cannot do, such as
    sampling; any other one itself. (Training on a GPU shards over that GPU alone.)
    """
    weights = denoiser.state_dict()
    if not any(hasattr(weight, "full_tensor") for weight in weights.values()):
        return denoiser
    whole = Denoiser(denoiser.config, denoiser.vocabulary)
    whole.load_state_dict({name: devices.gather(weight).cpu() for name, weight in weights.items()})
    return whole.to(devices.pick())


def evaluate_held_out(
    config: RunConfig,
    denoiser: Denoiser,
    tokens: Path,
    *,
    number: int = _NUM_HELD_OUT,
    is_unconditional: bool = False,
) -> dict[str, float]:
    """Evaluate the NELBO in bits per target token on `number` held-out sequences: of all tokens, and of each
    modality.

    Sequences and masks are the same for every trial, mixed as in training, so that only models differ.
    `is_unconditional`: of the sequences that have a condition, with the condition masked as for guidance;
    nothing if there are none.
    """
    sequences = draw_held_out(config, denoiser.vocabulary, tokens, number=number)
    if is_unconditional:
        sequences = [each for each in sequences if each.is_condition.any()]
        if not sequences:
            return {}
    nats = sequence_nelbo(
        denoiser, sequences, seed=0, num_masks=_NUM_MASKS, is_unconditional=is_unconditional
    )
    counts = {
        m: sum(target_tokens(s, denoiser.vocabulary, m) for s in sequences)
        for m in denoiser.vocabulary.modalities
    }
    total = sum(float(values.sum()) for values in nats.values()) / sum(counts.values())
    return {ALL: total * _NATS} | {
        m: float(nats[m].sum()) / count * _NATS for m, count in counts.items() if count
    }


def draw_held_out(
    config: RunConfig, vocabulary: Vocabulary, tokens: Path, *, number: int = _NUM_HELD_OUT
) -> list[Sequence]:
    """Draw `number` held-out sequences, mixed as in training; they are the same for every trial on the data.

    Raises: UserError if the data has no validation split.
    """
    sources = load_sources(config, load_tokenizers(config), "validation", tokens)
    known = tuple(c for c in config.mixture.components if c.source in sources)
    if not known:
        raise UserError("the data has no validation split, and a study compares held-out losses: prepare one")
    return draw_sequences(
        replace(config, seed=0),
        MixtureConfig(components=known),
        sources,
        vocabulary,
        number=number,
    )


@torch.no_grad()
def evaluate_mask_ratios(
    config: RunConfig, denoiser: Denoiser, tokens: Path, ratios: Rows[float]
) -> dict[str, float]:
    """Evaluate −log p in bits per masked token of each modality, on held-out sequences with a share of their
    targets masked: `cross_entropy/{ratio}/{modality}`.

    Sequences and masks are the same for every trial; masks of a larger ratio hide all that those of a smaller
    one do.
    """
    sequences = draw_held_out(config, denoiser.vocabulary, tokens)
    device = next(denoiser.parameters()).device
    tables, names = SlotTables(denoiser.vocabulary, device), denoiser.vocabulary.modalities
    sums, counts = np.zeros((len(ratios), len(names))), np.zeros((len(ratios), len(names)))
    for start in range(0, len(sequences), _EVALUATED_TOGETHER):
        chunk = sequences[start : start + _EVALUATED_TOGETHER]
        batch = make_batch(chunk, range(start, start + len(chunk))).to(device)
        order = torch.full(batch.tokens.shape, np.inf, dtype=torch.float64, device=device)
        for row, one in enumerate(chunk):
            count = int(one.maskable.sum())
            ranks = rng.generator(0, "mask ratios", start + row).permutation(count) / count
            order[row, batch.maskable[row]] = torch.from_numpy(ranks).to(device)
        mask_id, modality = tables.mask_id(batch.range_index), tables.modality(batch.range_index)
        for number, ratio in enumerate(ratios):
            hidden = order < ratio
            z_t = torch.where(hidden, mask_id, batch.tokens)
            loss = denoiser.cross_entropy(z_t, batch, hidden).double().cpu().numpy()
            of_each = modality[hidden].cpu().numpy()
            sums[number] += np.bincount(of_each, weights=loss, minlength=len(names))
            counts[number] += np.bincount(of_each, minlength=len(names))
    return {
        f"cross_entropy/{ratio:g}/{name}": sums[i, j] / counts[i, j] * _NATS
        for i, ratio in enumerate(ratios)
        for j, name in enumerate(names)
        if counts[i, j]
    }


def measure_noise_scales(
    step: DenoiserStep, stream: TrainingStream, *, num_small: int, num_pairs: int
) -> dict[str, float]:
    """Measure B_simple in sequences at the current weights, of the whole loss and of each modality's part, as
    `noise_scale/…`, on batches after those of the run.
    """
    first = step.num_steps
    found = measure_denoiser_noise_scale(
        step, lambda index: stream.batch(first + index), num_small=num_small, num_pairs=num_pairs
    )
    return {f"noise_scale/{name}": scale.batch for name, scale in found.items()} | {
        f"noise_scale_error/{name}": scale.standard_error for name, scale in found.items()
    }
