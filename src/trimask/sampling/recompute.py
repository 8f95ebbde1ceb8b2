"""Recompute policies: which positions a pass computes, and which keep their keys and values.

Every policy but `Everything` is an approximation, unless it renews in every pass; or, for `ConditionFrozen`,
unless conditions attend to themselves alone in the model (`ConditionAttention.PREFIX`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool

from trimask.errors import UserError


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """What a pass over one sequence is for, slot by slot.

    Attributes:
        is_prefix: what stands before the first target: task token, conditions, boundaries.
        masked: masked targets.
        read: slots whose prediction is read.
        changed: slots whose token has changed since they were computed.
    """

    is_prefix: Bool[np.ndarray, "slots"]
    masked: Bool[np.ndarray, "slots"]
    read: Bool[np.ndarray, "slots"]
    changed: Bool[np.ndarray, "slots"]


class Recompute(ABC):
    """Chooses the slots that a pass computes. The first pass over a sequence computes all; slots that are
    read are computed in any case.
    """

    __slots__ = ()

    renew_every: int | None
    """Every so many passes, one computes everything: 1 for all passes, None for the first alone. A field or a
    class variable of subclasses."""

    @abstractmethod
    def choose(self, needs: Pass) -> Bool[np.ndarray, "slots"]:
        """Return the slots to compute in a pass between renewals."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Everything(Recompute):
    """Compute all positions in every pass: exact."""

    renew_every: ClassVar[int | None] = 1

    def choose(self, needs: Pass) -> Bool[np.ndarray, "slots"]:
        return np.ones_like(needs.read)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionFrozen(Recompute):
    """Compute the condition in the first pass, and then only in every `renew_every`-th [L: prefix caches of
    Fast-dLLM, dLLM-Cache].

    Raises: UserError when `renew_every` is below 1.
    """

    renew_every: int | None = None

    def __post_init__(self) -> None:
        _check(self, self.renew_every)

    def choose(self, needs: Pass) -> Bool[np.ndarray, "slots"]:
        return ~needs.is_prefix


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RevealedFrozen(Recompute):
    """Compute masked slots, and revealed ones once after they are revealed (delayed caching of dKV-Cache,
    arXiv 2505.15781) [L]; everything in every `renew_every`-th pass.

    Raises: UserError when `renew_every` is below 1.
    """

    renew_every: int | None = None

    def __post_init__(self) -> None:
        _check(self, self.renew_every)

    def choose(self, needs: Pass) -> Bool[np.ndarray, "slots"]:
        return needs.masked | needs.changed


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Needed(Recompute):
    """Compute only the slots that are read and those whose token has changed; everything in every
    `renew_every`-th pass [D; in blocks it is the dual cache of Fast-dLLM, arXiv 2505.22618].

    A fixed order with a planned count reads just the slots that it reveals; other orders read all masked
    slots of the block, and gain less.

    Raises: UserError when `renew_every` is below 1.
    """

    renew_every: int | None = None

    def __post_init__(self) -> None:
        _check(self, self.renew_every)

    def choose(self, needs: Pass) -> Bool[np.ndarray, "slots"]:
        return needs.read | needs.changed


def _check(recompute: Recompute, renew_every: int | None) -> None:
    if renew_every is not None and renew_every < 1:
        raise UserError(
            f"{type(recompute).__name__}.renew_every is {renew_every}: give at least 1, or none for never"
        )
