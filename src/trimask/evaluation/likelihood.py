"""NELBO with little variance: every sequence under several masks whose ratios are spread evenly."""

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float

from trimask import rng
from trimask.diffusion.forward import is_masked, mask_tokens
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.modality import Modality
from trimask.vocabulary.sequence import Sequence


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A NELBO per target token of one modality: mean over sequences and its standard error, in bits."""

    bits_per_token: float
    standard_error: float
    num_sequences: int
    num_tokens: int


@torch.inference_mode()
def sequence_nelbo(
    denoiser: Denoiser,
    sequences: Rows[Sequence],
    *,
    seed: int,
    num_masks: int = 8,
    is_unconditional: bool = False,
    batch_size: int = 16,
) -> dict[Modality, Float[np.ndarray, "sequences"]]:
    """The NELBO estimate of each sequence, in nats, split by modality.

    NELBO = ∫₀¹ (1/m) E[Σ masked −log p] dm over the mask ratio m, which no schedule changes (METHOD §2). The
    integral is taken at `num_masks` ratios (j + u)/num_masks with one u per sequence: unbiased, and far less
    noisy than random ratios. `is_unconditional` hides the condition, as guidance does.
    """
    vocabulary = denoiser.vocabulary
    totals = {modality: np.zeros(len(sequences)) for modality in Modality}
    order = sorted(range(len(sequences)), key=lambda i: -sequences[i].num_positions)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = make_batch([sequences[i] for i in chosen], chosen)
        mask_id, modality = _slot_tables(vocabulary, batch.range_index)
        clean = torch.where(batch.is_condition, mask_id, batch.tokens) if is_unconditional else batch.tokens
        keys = rng.fold(rng.key(seed, "likelihood"), batch.sample_index)
        shift = rng.uniform(keys, 1)[:, 0]
        for j in range(num_masks):
            ratio = ((j + shift) / num_masks).clamp(min=1e-6)
            uniforms = rng.uniform(
                rng.fold(rng.key(seed, "likelihood", j), batch.sample_index), batch.tokens.shape[1]
            )
            z = mask_tokens(
                clean,
                mask_ratio=ratio[:, None].expand_as(uniforms),
                maskable=batch.maskable,
                mask_id=mask_id,
                uniforms=uniforms,
            )
            masked = is_masked(z, maskable=batch.maskable, mask_id=mask_id)
            loss = denoiser.cross_entropy(z, batch, masked).double()
            rows = masked.nonzero()[:, 0]
            for m in Modality:
                here = modality[masked] == m
                weighted = loss[here] / ratio[rows[here]] / num_masks
                totals[m][chosen] += (
                    torch.zeros(len(chosen), dtype=torch.float64).index_add(0, rows[here], weighted).numpy()
                )
    return totals


def bound(
    denoiser: Denoiser,
    sequences: Rows[Sequence],
    *,
    modality: Modality,
    seed: int,
    num_masks: int = 8,
    is_unconditional: bool = False,
) -> Bound:
    """The NELBO of the `modality` targets of `sequences`, in bits per token: a ratio of sums, with its
    standard error.
    """
    nats = sequence_nelbo(
        denoiser, sequences, seed=seed, num_masks=num_masks, is_unconditional=is_unconditional
    )[modality]
    tokens = np.array([target_tokens(s, denoiser.vocabulary, modality) for s in sequences], dtype=np.float64)
    mean = nats.sum() / tokens.sum()
    # Standard error of a ratio estimator (delta method).
    error = np.sqrt(((nats - mean * tokens) ** 2).sum()) / tokens.sum()
    return Bound(
        bits_per_token=float(mean / math.log(2)),
        standard_error=float(error / math.log(2)),
        num_sequences=len(sequences),
        num_tokens=int(tokens.sum()),
    )


def target_tokens(sequence: Sequence, vocabulary: Vocabulary, modality: Modality) -> int:
    """Target tokens of `modality` in a sequence."""
    inside = [r.index for r in vocabulary.ranges_of(modality)]
    return int((sequence.maskable & np.isin(sequence.range_index, inside)).sum())


def unigram_bits(
    training: Rows[Sequence], held_out: Rows[Sequence], vocabulary: Vocabulary, modality: Modality
) -> float:
    """Cross-entropy in bits per token of `held_out` under the smoothed frequencies of `training` targets, per
    codebook: the floor that a model must beat to have learned more than which tokens are common.
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


def _slot_tables(vocabulary: Vocabulary, range_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    masks = torch.tensor([*vocabulary.mask_of_range.tolist(), vocabulary.pad])
    modalities = torch.tensor([*(int(r.modality) for r in vocabulary.ranges), -1])
    return masks[range_index], modalities[range_index]
