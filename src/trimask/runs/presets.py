"""Sampler settings that a study chose for a run, by how much quality they may cost."""

from dataclasses import dataclass
from typing import final

from trimask.sampling.config import SamplerConfig

PRESETS = "presets.json"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Presets:
    """Sampler settings by task name, from the fewest passes to the best likelihood.

    They set order, count and steps, as the exact likelihood ranks them; filters and guidance are left at
    none.

    Attributes:
        weights: hash of the weights that they were chosen for.
    """

    weights: str
    fast: dict[str, SamplerConfig]
    balanced: dict[str, SamplerConfig]
    best: dict[str, SamplerConfig]
