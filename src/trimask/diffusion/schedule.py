"""Noise schedules: alpha(t) = P(a token is still visible at time t), with t = 0 data and t = 1 all masked.

Why every schedule here starts at alpha = 1 and ends at alpha = 0 [D]. In the mask ratio m = 1 - alpha, the
NELBO is

    integral over m in (0, 1) of (dm / m) * E sum_{i masked} -log p(x_i | z)

for every schedule (MDLM, MD4) [L]. A schedule that leaves out an end leaves out that part of the integral,
and the number is no longer a bound. So the geometric schedule is rescaled to span [0, 1], and the
log-linear one closes its gap in the last epsilon of time; both are then exact.

Why there is a smallest mask ratio [D]. Near t = 0 the weight grows like 1/t: a lone masked token would
weigh without limit. For 0 < t < t_min, where the unclipped mask ratio would be below `MINIMUM_MASK_RATIO` =
1e-5, it is held there, and the last stretch to t = 0 counts as one reverse step that reveals all: its term
has coefficient 1, spread over t_min, that is, weight 1/t_min. A discrete step only loosens the bound (MDLM:
the NELBO falls as steps are added) [L], here by O(1e-10) nats, so the clipped NELBO is still a bound, and
equals the exact one to better than 1e-9.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask.errors import UserError

MINIMUM_MASK_RATIO = 1e-5


class Schedule(ABC):
    """P(visible) as a falling function of time; has nothing to learn, so it is its own configuration.

    All methods are elementwise on float32 or float64 tensors of any shape (draw times in float64: float32
    keeps few distinct times near 0). A subclass states the unclipped mask ratio, its derivative and its
    inverse; the clip is applied here, once.
    """

    __slots__ = ()

    @abstractmethod
    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Map [0, 1] onto [0, 1], increasing, with full relative precision near t = 0."""

    @abstractmethod
    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The derivative of the unclipped mask ratio with respect to t."""

    @abstractmethod
    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inverse of the unclipped mask ratio."""

    def mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """P(masked at t) = 1 - alpha(t): 0 at t = 0, else in [`MINIMUM_MASK_RATIO`, 1]; 1 at t = 1."""
        clipped = self._call(self._unclipped_mask_ratio, t).clamp(MINIMUM_MASK_RATIO, 1.0)
        return torch.where(t > 0, clipped, torch.zeros_like(clipped))

    def alpha(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """P(visible at t): 1 at t = 0, 0 at t = 1, never rising."""
        return 1 - self.mask_ratio(t)

    def alpha_prime(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """d alpha / d t, per unit of time; 0 where alpha is clipped."""
        slope = -self._call(self._slope, t)
        return torch.where(t < self._clipped_until(t), torch.zeros_like(slope), slope)

    def inverse(self, alpha: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The time t with alpha(t) = `alpha`, for alpha in [0, 1]; within the clip, where the unclipped
        schedule has it."""
        return self._call(self._time, 1 - alpha).clamp(0.0, 1.0)

    def loss_weight(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The NELBO's weight on each masked token's cross-entropy, per unit of time; finite everywhere.

        w(t) = -alpha'(t) / (1 - alpha(t)) (MDLM; MD4) [L], and 1/t_min where alpha is clipped (see the
        module) [D].
        """
        t_min = self._clipped_until(t)
        inside = torch.maximum(t, t_min)
        weight = self._call(self._slope, inside) / self._call(self._unclipped_mask_ratio, inside)
        return torch.where(t < t_min, 1 / t_min, weight)

    def _clipped_until(self, like: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self._call(self._time, torch.full_like(like, MINIMUM_MASK_RATIO))

    def _call(
        self, method: Callable[[Tensor], Tensor], argument: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """Call a method that a subclass implements; raise UserError if it does not return a tensor of the
        argument's shape.
        """
        result: object = method(argument)
        if isinstance(result, Tensor) and result.shape in (argument.shape, ()):
            return result
        found = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else repr(result)
        raise UserError(
            f"{method.__name__} of the schedule {self!r} returned {found} for a tensor of shape "
            f"{tuple(argument.shape)}: return a tensor of that shape"
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Linear(Schedule):
    """alpha = 1 - t; w = 1/t (MDLM, MD4, LLaDA) [L]."""

    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return t

    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.ones_like(t)

    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return mask_ratio


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine(Schedule):
    """alpha = 1 - cos(pi/2 (1 - t)); w = pi/2 tan(pi/2 (1 - t)) (MaskGIT, MD4) [L]. Most times have high
    mask ratios."""

    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        # sin(pi/2 t) = cos(pi/2 (1 - t)), without the loss of digits near t = 0.
        return torch.sin(math.pi / 2 * t)

    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return math.pi / 2 * torch.cos(math.pi / 2 * t).clamp(min=0.0)

    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return 2 / math.pi * torch.asin(mask_ratio)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Polynomial(Schedule):
    """alpha = 1 - t^k; w = k/t (MD4) [L]. An exponent k below 1 favours high mask ratios, above 1 low ones.

    Raises: UserError when the exponent is not positive and finite.
    """

    exponent: float

    def __post_init__(self) -> None:
        if not 0 < self.exponent < math.inf:
            raise UserError(
                f"Polynomial.exponent is {self.exponent}; give a positive, finite number (1 is linear)"
            )

    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return t**self.exponent

    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.exponent * t ** (self.exponent - 1)

    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return mask_ratio ** (1 / self.exponent)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Geometric(Schedule):
    """sigma = sigma_min^(1-t) sigma_max^t and alpha = exp(-sigma) (SEDD, MDLM) [L], rescaled [D] to span
    [0, 1].

    alpha = (exp(-sigma) - exp(-sigma_max)) / (exp(-sigma_min) - exp(-sigma_max)); w = sigma' / (exp(sigma -
    sigma_min) - 1). Without the rescaling it would run from exp(-sigma_min) to exp(-sigma_max), and the
    NELBO would lack both ends. The default sigma_max = 20 is SEDD's: the rescaling then moves alpha by at
    most 1e-3. MDLM's class defaults to 1, which leaves 37 % of tokens visible at t = 1; here it is a valid
    schedule too, one that favours low mask ratios.

    Raises: UserError unless 0 < sigma_min < sigma_max and sigma_max is finite.
    """

    sigma_min: float = 1e-3
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise UserError(
                f"Geometric has sigma_min {self.sigma_min} and sigma_max {self.sigma_max}; "
                "give 0 < sigma_min < sigma_max, for instance 1e-3 and 20"
            )

    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.expm1(-self._added_sigma(t)) / math.expm1(self.sigma_min - self.sigma_max)

    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        added = self._added_sigma(t)
        sigma_prime = (self.sigma_min + added) * self._log_range
        return sigma_prime * torch.exp(-added) / -math.expm1(self.sigma_min - self.sigma_max)

    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        added = -torch.log1p(mask_ratio * math.expm1(self.sigma_min - self.sigma_max))
        return torch.log1p(added / self.sigma_min) / self._log_range

    def _added_sigma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """sigma(t) - sigma_min, without the loss of digits near t = 0."""
        return self.sigma_min * torch.expm1(t * self._log_range)

    @property
    def _log_range(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LogLinear(Schedule):
    """alpha = 1 - (1 - eps) t; w = 1/t (MDLM) [L], for t up to 1 - eps; from there a straight line to
    alpha(1) = 0 [D].

    MDLM's own ends at alpha(1) = eps, and so leaves the mask ratios above 1 - eps out of the NELBO: about
    eps of it.

    Raises: UserError unless 0 < eps < 1.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise UserError(f"LogLinear.eps is {self.eps}; give a number between 0 and 1, for instance 1e-3")

    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        # The two lines cross at t = 1 - eps, and the second is the steeper one.
        return torch.maximum((1 - self.eps) * t, 1 - (2 - self.eps) * (1 - t))

    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        line, end = torch.full_like(t, 1 - self.eps), torch.full_like(t, 2 - self.eps)
        return torch.where(t < 1 - self.eps, line, end)

    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.minimum(mask_ratio / (1 - self.eps), 1 - (1 - mask_ratio) / (2 - self.eps))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tabulated(Schedule):
    """The schedule whose mask ratios have a stated density, constant between `edges` [D].

    With P(m) the share of mask ratios below m and p = P' its density, alpha = 1 - P^-1(t) and
    w(t) = 1 / (m p(m)) at m = P^-1(t): piecewise linear in t, so exact. A measured optimal density, which is
    proportional to the root of the mean squared gradient at m, is one.

    Attributes:
        edges: mask ratios from 0 to 1, rising; one more than `densities`.
        densities: relative density between neighbouring edges, positive; scaled to integrate to 1.

    Raises: UserError for other edges or densities.
    """

    edges: tuple[float, ...]
    densities: tuple[float, ...]

    def __post_init__(self) -> None:
        ends, rises = self.edges[:1] + self.edges[-1:], zip(self.edges, self.edges[1:], strict=False)
        if ends != (0.0, 1.0) or not all(low < high for low, high in rises):
            raise UserError(f"Tabulated.edges are {self.edges}: give rising mask ratios from 0 to 1")
        if len(self.densities) != len(self.edges) - 1:
            raise UserError(
                f"Tabulated has {len(self.densities)} densities for {len(self.edges)} edges: give one for "
                "each interval between them"
            )
        if not all(0 < density < math.inf for density in self.densities):
            raise UserError(
                f"Tabulated.densities are {self.densities}: give positive, finite numbers; a mask ratio that "
                "is never drawn is missing from the bound"
            )

    def _unclipped_mask_ratio(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        edges, starts, slopes = self._table(t)
        here = self._interval(t, starts)
        return edges[here] + (t - starts[here]) * slopes[here]

    def _slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        _, starts, slopes = self._table(t)
        return slopes[self._interval(t, starts)]

    def _time(self, mask_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        edges, starts, slopes = self._table(mask_ratio)
        here = self._interval(mask_ratio, edges)
        return starts[here] + (mask_ratio - edges[here]) / slopes[here]

    def _table(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the edges, the times at them, and the slope of the mask ratio after each but the last."""
        edges = torch.tensor(self.edges, dtype=torch.float64)
        density = torch.tensor(self.densities, dtype=torch.float64)
        masses = density * edges.diff()
        total = masses.sum()
        starts = torch.cat([edges[:1], (masses / total).cumsum(0)])
        return edges.to(like), starts.to(like), (total / density).to(like)

    def _interval(self, values: Float[Tensor, "*shape"], starts: Tensor) -> Int[Tensor, "*shape"]:
        """Return the interval of each value: the last that starts at or below it."""
        found = torch.searchsorted(starts, values.detach().contiguous(), right=True) - 1
        return found.clamp(0, len(self.densities) - 1)


def per_modality(
    schedules: Sequence[Schedule], modality: Int[Tensor, "*shape"], t: Float[Tensor, "*#shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return (alpha, loss_weight) at each position, from the schedule of that position's modality:
    `schedules[modality]`.

    `t` broadcasts against `modality`: one time per sequence is `t[:, None]`. Positions with any other index
    (boundaries, padding) have alpha 1 and weight 0: they stay visible and cost nothing.
    """
    alpha = t.new_ones(modality.shape)
    weight = t.new_zeros(modality.shape)
    for index, schedule in enumerate(schedules):
        here = modality == index
        alpha = torch.where(here, schedule.alpha(t), alpha)
        weight = torch.where(here, schedule.loss_weight(t), weight)
    return alpha, weight
