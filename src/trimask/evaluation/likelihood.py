"""Estimate the NELBO with low variance, by several masks per sequence with stratified sizes."""

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float

from trimask import rng
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence
from trimask.vocabulary.slots import SlotTables


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A NELBO per target token of one modality: mean over sequences and its standard error, in bits."""

    bits_per_token: float
    standard_error: float
    num_sequences: int
    num_tokens: int


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MaskStream:
    """The random stream of a sequence's masks.

    Sequences with the same stream share one random order of places, so that the noise of their masks cancels
    in a comparison, even if they have different numbers of targets.

    Attributes:
        key: key of the random stream.
        num_places: number of places in the random order, at least the number of targets.
    """

    key: int
    num_places: int


@torch.no_grad()  # not inference mode: a sharded run could not continue training with its tensors
def sequence_nelbo(
    denoiser: Denoiser,
    sequences: Rows[Sequence],
    *,
    seed: int,
    num_masks: int = 8,
    is_unconditional: bool = False,
    batch_size: int = 16,
    streams: Rows[MaskStream] | None = None,
) -> dict[str, Float[np.ndarray, "sequences"]]:
    """Estimate the NELBO of each sequence, in nats, by modality; see `draw_views` for the masks.

    Sequence i has the same masks at any `batch_size`.

    Args:
        is_unconditional: mask the condition, as guidance does.
        streams: random stream of each sequence's masks; by default derived from its index.
    """
    vocabulary, device = denoiser.vocabulary, next(denoiser.parameters()).device
    tables = SlotTables(vocabulary, device)
    totals = {name: np.zeros(len(sequences)) for name in vocabulary.modalities}
    counts = [int(sequence.maskable.sum()) for sequence in sequences]
    if streams is None:
        streams = [MaskStream(key=number, num_places=count) for number, count in enumerate(counts)]
    views = [
        (number, view)
        for number, (count, stream) in enumerate(zip(counts, streams, strict=True))
        for view in draw_views(count, num_masks, seed, stream)
    ]
    views.sort(key=lambda each: -sequences[each[0]].num_positions)
    for start in range(0, len(views), batch_size):
        chunk = views[start : start + batch_size]
        chosen = np.array([number for number, _ in chunk])
        batch = make_batch([sequences[i] for i in chosen], chosen.tolist()).to(device)
        mask_id, modality = tables.mask_id(batch.range_index), tables.modality(batch.range_index)
        hidden = batch.maskable.new_zeros(batch.maskable.shape)
        hidden[batch.maskable] = torch.from_numpy(np.concatenate([v.is_masked for _, v in chunk])).to(device)
        clean = torch.where(batch.is_condition, mask_id, batch.tokens) if is_unconditional else batch.tokens
        loss = denoiser.cross_entropy(torch.where(hidden, mask_id, clean), batch, hidden).double()
        rows = hidden.nonzero()[:, 0]
        weights = torch.tensor([view.weight for _, view in chunk], dtype=torch.float64, device=device)
        for number, name in enumerate(vocabulary.modalities):
            here = modality[hidden] == number
            sums = loss.new_zeros(len(chunk)).index_add(0, rows[here], loss[here] * weights[rows[here]])
            np.add.at(totals[name], chosen, sums.cpu().numpy())
    return totals


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A mask over a sequence's targets, and the weight of the sum of their losses in the estimate."""

    is_masked: Bool[np.ndarray, "targets"]
    weight: float


def draw_views(num_targets: int, num_masks: int, seed: int, stream: MaskStream) -> list[View]:
    """Draw masks and weights with E[Σ weight · Σ masked −log p] = NELBO.

    With the mask ratio integrated out, NELBO = ∫₀¹ (1/m) E[Σ masked −log p] dm is
    Σ_k (1/k) E[Σ masked −log p over masks of exactly k of the n targets] [L: LLaDA, eq. 14; the Beta
    integral], which avoids the noise of the number of masked targets. Sizes k are stratified over 1 … n, with
    one random shift per sequence. The masks are consecutive arcs around one random circular order of the
    targets, so that together they cover all targets evenly; each is uniform given its size, so the estimate
    is unbiased [D]. If there are at most `num_masks` different masks (2ⁿ - 1), all are used: the result is
    exact.
    """
    n = num_targets
    if n and 2**n - 1 <= num_masks:
        bits = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
        return [View(is_masked=row, weight=1 / (row.sum() * math.comb(n, row.sum()))) for row in bits > 0]
    generator = rng.generator(seed, "likelihood", stream.key)
    order, shift = generator.permutation(stream.num_places), generator.random()
    order = order[order < n]
    views, start = [], 0
    for j in range(num_masks if n else 0):
        size = 1 + int(n * (j + shift) / num_masks)
        mask = np.zeros(n, dtype=bool)
        mask[order[np.arange(start, start + size) % n]] = True
        views.append(View(is_masked=mask, weight=n / (size * num_masks)))
        start += size
    return views


def bound(
    denoiser: Denoiser,
    sequences: Rows[Sequence],
    *,
    seed: int,
    num_masks: int = 8,
    is_unconditional: bool = False,
) -> Bound:
    """Estimate the NELBO of all targets of `sequences`, in bits per token, as a ratio of sums."""
    by_modality = sequence_nelbo(
        denoiser, sequences, seed=seed, num_masks=num_masks, is_unconditional=is_unconditional
    )
    nats = np.sum(list(by_modality.values()), axis=0)
    tokens = np.array([s.maskable.sum() for s in sequences], dtype=np.float64)
    mean = nats.sum() / tokens.sum()
    # Standard error of a ratio estimator (delta method).
    error = np.sqrt(((nats - mean * tokens) ** 2).sum()) / tokens.sum()
    return Bound(
        bits_per_token=float(mean / math.log(2)),
        standard_error=float(error / math.log(2)),
        num_sequences=len(sequences),
        num_tokens=int(tokens.sum()),
    )


def target_tokens(sequence: Sequence, vocabulary: Vocabulary, modality: str) -> int:
    """Count the target tokens of `modality` in a sequence."""
    inside = [r.index for r in vocabulary.ranges_of(modality)]
    return int((sequence.maskable & np.isin(sequence.range_index, inside)).sum())


def unigram_bits(
    training: Rows[Sequence], held_out: Rows[Sequence], vocabulary: Vocabulary, modality: str
) -> float:
    """Compute the cross-entropy of `held_out` under the unigram frequencies of `training`, in bits per token.

    Frequencies are add-one smoothed and per codebook. A model must be below this floor to have learned more
    than the frequencies of tokens.
    """
    total = count = 0.0
    for token_range in vocabulary.ranges_of(modality):
        frequency = np.ones(token_range.size)
        for sequence in training:
            here = sequence.maskable & (sequence.range_index == token_range.index)
            frequency += np.bincount(sequence.tokens[here] - token_range.start, minlength=token_range.size)
        bits = -np.log2(frequency / frequency.sum())
        for sequence in held_out:
            here = sequence.maskable & (sequence.range_index == token_range.index)
            total += float(bits[sequence.tokens[here] - token_range.start].sum())
            count += float(here.sum())
    return total / count
