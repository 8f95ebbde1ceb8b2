"""How the times of a batch are drawn: the weighted loss varies far more with t than with the masks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from trimask import rng
from trimask.diffusion.time import low_discrepancy_times
from trimask.errors import UserError


class TimeDraw(ABC):
    """Draws the times of the sequences of one task in a logical batch; has no parameters to learn.

    Each time is uniform over [0, 1) by itself, so that the loss is unbiased; how the times of one batch
    depend on each other is what a choice is about.
    """

    __slots__ = ()

    @abstractmethod
    def _times(
        self, sample_index: Int[Tensor, "n"], *, seed: int, stream: tuple[int, ...]
    ) -> Float64[Tensor, "n"]:
        """Return a time in [0, 1) for each sequence, on its device: a function of the arguments alone."""

    def times(
        self, sample_index: Int[Tensor, "n"], *, seed: int, stream: tuple[int, ...]
    ) -> Float64[Tensor, "n"]:
        """Return a time in [0, 1) for each of the sequences `sample_index` (ascending) of one task.

        `stream` numbers the logical batch, the task, and where the part starts if the update holds a part.

        Raises: UserError if a user's class returns something else.
        """
        found: object = self._times(sample_index, seed=seed, stream=stream)
        is_tensor = isinstance(found, Tensor) and found.shape == sample_index.shape
        if not (is_tensor and bool(((found >= 0) & (found < 1)).all())):  # type: ignore[operator]
            shown = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
            raise UserError(
                f"_times of {self!r} returned {shown} for {len(sample_index)} sequences: return a tensor of "
                "as many times, at least 0 and below 1"
            )
        return found.to(torch.float64)  # type: ignore[union-attr]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Stratified(TimeDraw):
    """t_i = (u + i/n) mod 1 with one u ~ U(0, 1) for the n sequences (MD4; VDM) [L]: each interval of length
    1/n has one time. See `low_discrepancy_times`.
    """

    def _times(
        self, sample_index: Int[Tensor, "n"], *, seed: int, stream: tuple[int, ...]
    ) -> Float64[Tensor, "n"]:
        offset = float(rng.generator(seed, "time", *stream).random())
        return low_discrepancy_times(len(sample_index), offset=offset).to(sample_index.device)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Independent(TimeDraw):
    """t_i ~ U(0, 1), independent (MDLM's baseline, LLaDA) [L]: a time belongs to its sequence, whatever the
    batch.
    """

    def _times(
        self, sample_index: Int[Tensor, "n"], *, seed: int, stream: tuple[int, ...]
    ) -> Float64[Tensor, "n"]:
        return rng.uniform(rng.fold(rng.key(seed, "independent time"), sample_index), 1)[:, 0]
