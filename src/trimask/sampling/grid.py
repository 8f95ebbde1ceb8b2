"""Time grids: the times at which the sampler stops between t = 1 (all masked) and t = 0 (all revealed)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from trimask.errors import UserError


class TimeGrid(ABC):
    """A decreasing map from the fraction of steps done to time."""

    __slots__ = ()

    @abstractmethod
    def _time(self, done: Float64[Tensor, "times"]) -> Float64[Tensor, "times"]:
        """Return the time after the fraction `done` of the steps; 1 at 0 and 0 at 1 up to rounding."""

    def times(self, num_steps: int) -> Float64[Tensor, "times"]:
        """Return `num_steps` + 1 times, strictly decreasing from 1 to 0.

        Raises:
            UserError: `num_steps` below 1, or a subclass that does not return as many times.
        """
        if num_steps < 1:
            raise UserError(f"num_steps is {num_steps}: give at least 1")
        times = self._time(torch.arange(num_steps + 1, dtype=torch.float64) / num_steps)
        if not isinstance(times, Tensor) or times.shape != (num_steps + 1,):
            raise UserError(
                f"_time of the grid {self!r} returned {times!r}: return a tensor of {num_steps + 1} times, "
                "one for each fraction that it is given"
            )
        times[0], times[-1] = 1.0, 0.0
        return times


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform(TimeGrid):
    """t = 1 - done."""

    def _time(self, done: Float64[Tensor, "times"]) -> Float64[Tensor, "times"]:
        return 1 - done


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine(TimeGrid):
    """t = cos(pi/2 done) (MaskGIT) [L]: few tokens are revealed early, when little is known."""

    def _time(self, done: Float64[Tensor, "times"]) -> Float64[Tensor, "times"]:
        return torch.cos(math.pi / 2 * done)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Shifted(TimeGrid):
    """t = shift · u / (1 + (shift - 1) · u) with u = 1 - done [L].

    A `shift` above 1 takes small steps near t = 1, so that few tokens are revealed early; 1 is uniform.
    Implementations that shift the *revealed* fraction 1 - t by a factor c (OmniVoice: 0.1) correspond to
    shift = 1/c.

    Raises: UserError unless the shift is positive and finite.
    """

    shift: float

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise UserError(f"Shifted.shift is {self.shift}; give a positive, finite number (1 is uniform)")

    def _time(self, done: Float64[Tensor, "times"]) -> Float64[Tensor, "times"]:
        u = 1 - done
        return self.shift * u / (1 + (self.shift - 1) * u)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tabulated(TimeGrid):
    """Times that were found for certain numbers of steps, such as the best ones of a measured profile
    (`trimask.sampling.profile`).

    Another number of steps interpolates linearly between the times for the nearest larger number, or else the
    largest one.

    Attributes:
        times_of_steps: one tuple per number of steps, each from 1 to 0, by increasing length.

    Raises: UserError unless each falls strictly from 1 to 0.
    """

    times_of_steps: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        lengths = [len(times) for times in self.times_of_steps]
        if not lengths or lengths != sorted(set(lengths)):
            raise UserError(
                f"Tabulated has times for {[n - 1 for n in lengths]} steps: give one tuple for each number "
                "of steps, by increasing length"
            )
        for times in self.times_of_steps:
            falls = all(earlier > later for earlier, later in pairwise(times))
            if len(times) < 2 or (times[0], times[-1]) != (1.0, 0.0) or not falls:
                raise UserError(f"Tabulated has the times {times}: they must fall strictly from 1 to 0")

    def _time(self, done: Float64[Tensor, "times"]) -> Float64[Tensor, "times"]:
        larger = [times for times in self.times_of_steps if len(times) >= len(done)]
        times = np.array(larger[0] if larger else self.times_of_steps[-1])
        place = np.linspace(0, 1, len(times))
        return torch.from_numpy(np.interp(done.numpy(), place, times))
