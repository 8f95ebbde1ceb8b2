"""The squared gradient at fixed weights, as a function of the mask ratio: what a schedule changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy import stats
from torch import Tensor

from trimask import rng
from trimask.diffusion.schedule import MINIMUM_MASK_RATIO, Schedule, Tabulated
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.studies.gradients import flat_gradient
from trimask.vocabulary import sequence
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.slots import SlotTables

_POWER = 4  # strata are even in the fourth root of the mask ratio: narrow where the noise is, near 0


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Profile:
    """Squared gradients of sequences by mask ratio, at fixed weights.

    With h(m) = 1/m · Σ_masked ∇(−log p) of one sequence at mask ratio m, the gradient of its NELBO is
    ∫ h dm for every schedule, and its second moment under ratios of density p is ∫ E|h|² / p dm.

    Attributes:
        edges: of the strata, from 0 to 1; the first ratio within is `MINIMUM_MASK_RATIO`.
        ratio: where each sample was drawn.
        width: the stretch of mask ratios that it stands for; below the minimum, the clipped stretch.
        squared: estimate of E|h(m)|².
        squared_mean: unbiased estimate of |∫ h dm|² of each sequence.
    """

    edges: Float64[np.ndarray, "edges"]
    ratio: Float64[np.ndarray, "sequences samples"]
    width: Float64[np.ndarray, "sequences samples"]
    squared: Float64[np.ndarray, "sequences samples"]
    squared_mean: Float64[np.ndarray, "sequences"]

    def second_moment(self, schedule: Schedule) -> Float64[np.ndarray, "sequences"]:
        """Return E|g|² of the NELBO's gradient of each sequence under `schedule`: ∫ E|h|² dm/dt dm, where
        dm/dt = 1/p is m times the schedule's weight.
        """
        ratio = torch.from_numpy(self.ratio)
        slope = ratio * schedule.loss_weight(schedule.inverse(1 - ratio))
        return (self.width * self.squared * slope.numpy()).sum(1)

    def variance(self, schedule: Schedule) -> Float64[np.ndarray, "sequences"]:
        """Return E|g − ḡ|² over times and masks of each sequence under `schedule`."""
        return self.second_moment(schedule) - self.squared_mean

    def moments(self) -> Float64[np.ndarray, "strata"]:
        """Return ∫ E|h|² dm over each stratum, averaged over sequences."""
        place = np.clip(np.searchsorted(self.edges, self.ratio, side="right") - 1, 0, len(self.edges) - 2)
        terms = self.width * self.squared
        found = np.bincount(place.ravel(), weights=terms.ravel(), minlength=len(self.edges) - 1)
        return found / len(self.ratio)

    def of(self, chosen: Bool[np.ndarray, "sequences"]) -> "Profile":
        """Return the profile of some of its sequences."""
        return Profile(
            edges=self.edges,
            ratio=self.ratio[chosen],
            width=self.width[chosen],
            squared=self.squared[chosen],
            squared_mean=self.squared_mean[chosen],
        )


def strata(number: int) -> Float64[np.ndarray, "edges"]:
    """Return the edges of `number` strata of mask ratios, from 0 to 1, finest near 0."""
    least = MINIMUM_MASK_RATIO ** (1 / _POWER)
    edges = np.linspace(least, 1.0, number + 1) ** _POWER
    edges[0], edges[-1] = 0.0, 1.0
    return edges


def optimal_density(edges: Sequence[float], moments: Sequence[float]) -> Tabulated:
    """Return the schedule of least gradient variance among those whose density is constant in each stratum.

    p*(m) ∝ √E|h(m)|² minimizes ∫ E|h|² / p dm (Cauchy–Schwarz; importance sampling) [D: as a schedule].
    Constant in a stratum, it is the root of the mean of E|h|² there. `moments` as `Profile.moments`.

    Raises: UserError if a moment is not positive: the gradient is 0 there, or was not measured.
    """
    for low, high, moment in zip(edges, edges[1:], moments, strict=False):
        if not 0 < moment < np.inf:
            raise UserError(f"E|g|² over mask ratios {low:.3g} to {high:.3g} is {moment}: measure it again")
    densities = np.sqrt(np.asarray(moments) / np.diff(edges))
    total = float((densities * np.diff(edges)).sum())
    return Tabulated(
        edges=tuple(float(edge) for edge in edges),
        densities=tuple(float(density) / total for density in densities),
    )


def measure_profile(
    denoiser: Denoiser, sequences: Sequence[sequence.Sequence], *, seed: int, num_strata: int
) -> Profile:
    """Measure the squared gradient of each sequence by mask ratio, at the denoiser's weights.

    Each sequence has two independent sets of samples, one in each stratum; their product estimates |ḡ|²
    without bias. A mask is drawn on condition that it hides a target, and the chance of that is a factor: at
    low ratios most masks hide none, and plain draws would rarely see what they weigh most.
    """
    edges = strata(num_strata)
    rows = [_profile(denoiser, one, edges, seed=seed, number=i) for i, one in enumerate(sequences)]
    ratio, width, squared, squared_mean = (np.array([row[i] for row in rows]) for i in range(4))
    return Profile(edges=edges, ratio=ratio, width=width, squared=squared, squared_mean=squared_mean)


def _profile(
    denoiser: Denoiser,
    one: sequence.Sequence,
    edges: Float64[np.ndarray, "edges"],
    *,
    seed: int,
    number: int,
) -> tuple[list[float], list[float], list[float], float]:
    """Return the ratios, widths and squares of a sequence's samples, and the estimate of |ḡ|²."""
    draw = rng.generator(seed, "profile", number)
    batch = make_batch([one], [number])
    lows = np.maximum(edges, MINIMUM_MASK_RATIO) ** (1 / _POWER)
    ratios, widths, squares, means = [], [], [], []
    for _ in range(2):
        # The clipped stretch, then one ratio in each stratum.
        roots = lows[:-1] + np.diff(lows) * draw.random(len(edges) - 1)
        own_ratios = [MINIMUM_MASK_RATIO, *(roots**_POWER).tolist()]
        steep = _POWER * roots ** (_POWER - 1) * np.diff(lows)
        own_widths = [MINIMUM_MASK_RATIO, *steep.tolist()]
        total = torch.zeros(())
        for ratio, width in zip(own_ratios, own_widths, strict=True):
            gradient, chance = _gradient_at(denoiser, batch, ratio, draw)
            ratios.append(ratio)
            widths.append(width / 2)  # of two sets
            squares.append(chance * float(gradient.double().square().sum()))
            total = total + width * chance * gradient
        means.append(total.double())
    return ratios, widths, squares, float(means[0] @ means[1])


def _gradient_at(
    denoiser: Denoiser, batch: Batch, ratio: float, draw: np.random.Generator
) -> tuple[Tensor, float]:
    """Return 1/m · Σ_masked ∇(−log p) under a mask that hides a target, and the chance of such a mask."""
    places = batch.maskable.nonzero()
    count = len(places)
    chance = -np.expm1(count * np.log1p(-ratio)) if ratio < 1 else 1.0
    hidden = stats.binom.ppf(1 - chance + chance * draw.random(), count, ratio)
    chosen = places[torch.from_numpy(draw.permutation(count)[: int(min(max(hidden, 1), count))])]
    is_masked = torch.zeros_like(batch.maskable)
    is_masked[chosen[:, 0], chosen[:, 1]] = True
    mask_id = SlotTables(denoiser.vocabulary, batch.tokens.device).mask_id(batch.range_index)
    z_t = torch.where(is_masked, mask_id, batch.tokens)
    loss = denoiser.cross_entropy(z_t, batch, is_masked).sum() / ratio
    return flat_gradient(loss, denoiser), float(chance)
