"""The NELBO: weighted cross-entropy at masked positions, in nats.

It is kept as terms until the divisor is known: the number of *all* target tokens, masked or not, since the
weight already accounts for visible ones. So a predictor that is uniform over V tokens has exactly ln V nats
per token in expectation.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.diffusion.schedule import Schedule


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NelboTerms:
    """One term per masked slot: `values` = weight * cross-entropy in nats, and where each belongs."""

    values: Float[Tensor, "masked"]
    modality: Int[Tensor, "masked"]
    sequence: Int[Tensor, "masked"]

    def per_sequence(self, num_sequences: int) -> Float[Tensor, "sequences"]:
        """Return the NELBO estimate of each sequence in nats: a sum over its tokens, 0 if none is masked."""
        return self.values.new_zeros(num_sequences).index_add(0, self.sequence, self.values)

    def per_modality(self, num_modalities: int) -> Float[Tensor, "modalities"]:
        """Return the sum over the batch for each modality, in nats."""
        # Masked sums, not index_add: its order on a GPU varies, and a rerun must give the same bits.
        zero = torch.zeros_like(self.values)
        sums = [
            torch.where(self.modality == index, self.values, zero).sum() for index in range(num_modalities)
        ]
        return torch.stack(sums)

    def nats_per_token(self, num_targets: Int[Tensor, "modalities"]) -> Float[Tensor, "modalities"]:
        """Return the NELBO of each modality per target token (`count_targets`); NaN if the batch has none."""
        return self.per_modality(num_targets.shape[0]) / num_targets


def nelbo_terms(
    cross_entropy: Float[Tensor, "masked"],
    weight: Float[Tensor, "masked"],
    *,
    modality: Int[Tensor, "masked"],
    sequence: Int[Tensor, "masked"],
) -> NelboTerms:
    """The terms of NELBO = E_t[w(t) sum_{i masked} -log p(x_i | z_t)] (MDLM, MD4) [L], one per masked slot.

    `cross_entropy` is -log p in nats over the slot's own modality; `weight` is `Schedule.loss_weight` at
    its sequence's t (or `mask_ratio_weight`). The values have the dtype of the cross-entropy and carry its
    gradient.
    """
    return NelboTerms(
        values=cross_entropy * weight.to(cross_entropy.dtype), modality=modality, sequence=sequence
    )


def count_targets(
    maskable: Bool[Tensor, "*shape"], modality: Int[Tensor, "*shape"], *, num_modalities: int
) -> Int[Tensor, "modalities"]:
    """Count the maskable (target) tokens of each modality, masked or not."""
    return torch.stack([(maskable & (modality == index)).sum() for index in range(num_modalities)])


def training_loss(
    terms: NelboTerms,
    *,
    num_sequences: int,
    token_weights: Float[Tensor, "modalities"],
) -> Float[Tensor, ""]:
    """1 / num_sequences * sum_m token_weights[m] * NELBO_m: a mean over sequences of constant weights [D].

    With 1 / (target tokens of a sequence in expectation) for each weight it is the NELBO in nats per token.
    """
    sums = terms.per_modality(token_weights.shape[0])
    return (token_weights.to(sums.dtype) * sums).sum() / num_sequences


def mask_ratio_weight(
    mask_ratio: Float[Tensor, "*shape"], density: Float[Tensor, "*shape"] | float = 1.0
) -> Float[Tensor, "*shape"]:
    """The exact weight 1 / (m p(m)) of a view with mask ratio m > 0, when its ratio was drawn with density
    p [L].

    Anti-masking draws u ~ U(0, 1) and has loss (CE_M / u + CE_notM / (1 - u)) / 2 [D]: each view takes this
    weight at its own ratio, density 1, and the 1/2 comes from counting the targets of both views. If u was
    drawn with another density (a schedule's m(t) at uniform t has p = -1/alpha'(t)), both views take p(u),
    *not* each its own schedule's weight: 1 - u does not follow p.
    """
    return 1 / (mask_ratio * density)


def nelbo(
    logits: Float[Tensor, "b n v"],
    *,
    target: Int[Tensor, "b n"],
    z_t: Int[Tensor, "b n"],
    t: Float[Tensor, "b"],
    schedule: Schedule,
    maskable: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b"]:
    """The NELBO estimate of each sequence in nats per target token: the objective in one place, for small
    vocabularies.

    w(t) / n_targets * sum_{i masked} -log softmax(logits_i)[target_i] (MDLM, MD4) [L]. Masked is where
    `z_t` differs from `target`; `maskable` (default: everywhere) says which tokens count as targets.
    Training never forms all logits, and uses `nelbo_terms`; the two agree.
    """
    masked = z_t != target
    log_likelihood = torch.log_softmax(logits, dim=-1).gather(-1, target[..., None])[..., 0]
    cross_entropy = torch.where(masked, -log_likelihood, torch.zeros_like(log_likelihood)).sum(-1)
    num_targets = target.shape[-1] if maskable is None else maskable.sum(-1).clamp(min=1)
    return schedule.loss_weight(t).to(logits.dtype) * cross_entropy / num_targets
