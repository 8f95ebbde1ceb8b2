"""The arms of the study of schedules: how mask ratios are distributed and weighted."""

from dataclasses import dataclass, field
from typing import final

from trimask.diffusion.schedule import Linear, Schedule
from trimask.training.weighting import Bound, Weighting

OPTIMAL = "optimal-density"
"""The arm whose densities are measured, once the reference arm has been trained."""
EARLY, FINAL = "early", "final"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to distribute and weigh mask ratios.

    Attributes:
        schedule: the distribution of mask ratios of all modalities.
        modalities: that of single ones, by name, instead.
        weighting: weight of a masked token.
    """

    schedule: Schedule = Linear()
    modalities: dict[str, Schedule] = field(default_factory=dict)
    weighting: Weighting = Bound()

    def of(self, modality: str) -> Schedule:
        return self.modalities.get(modality, self.schedule)

    @property
    def is_bound(self) -> bool:
        return isinstance(self.weighting, Bound)
