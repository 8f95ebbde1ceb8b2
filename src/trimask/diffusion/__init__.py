"""Masked diffusion as pure functions on tensors: ids and boolean masks, no network, no vocabulary."""

from trimask.diffusion.forward import complement, is_masked, mask_tokens
from trimask.diffusion.objective import (
    NelboTerms,
    count_targets,
    mask_ratio_weight,
    nelbo,
    nelbo_terms,
    training_loss,
)
from trimask.diffusion.reverse import remask_limit, remask_probabilities, unmask_probability
from trimask.diffusion.schedule import (
    MINIMUM_MASK_RATIO,
    Cosine,
    Geometric,
    Linear,
    LogLinear,
    Polynomial,
    Schedule,
    Tabulated,
    per_modality,
)
from trimask.diffusion.time import low_discrepancy_times, mask_ratio_pairs

__all__ = [
    "MINIMUM_MASK_RATIO",
    "Cosine",
    "Geometric",
    "Linear",
    "LogLinear",
    "NelboTerms",
    "Polynomial",
    "Schedule",
    "Tabulated",
    "complement",
    "count_targets",
    "is_masked",
    "low_discrepancy_times",
    "mask_ratio_pairs",
    "mask_ratio_weight",
    "mask_tokens",
    "nelbo",
    "nelbo_terms",
    "per_modality",
    "remask_limit",
    "remask_probabilities",
    "training_loss",
    "unmask_probability",
]
