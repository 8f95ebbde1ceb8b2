"""Transfer optimizer values from the run in which they were tuned to another batch and horizon.

The logical batch sets the gradient noise, and with it the stochastic differential equation that training
follows; the physical batch suits the hardware. For the same horizon and equation, a larger batch takes larger
steps along the same path.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

from trimask.config.derived import OURS, PAPER, Derived
from trimask.errors import UserError
from trimask.training.optimizers import AdamWConfig


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """Where the optimizer values were tuned; None means the run's own logical batch and horizon.

    Attributes:
        logical_batch: sequences per update there (B_base).
        num_steps: updates there: its horizon D_base is `logical_batch` × `num_steps` sequences.
    """

    logical_batch: int | None = None
    num_steps: int | None = None

    def __post_init__(self) -> None:
        if (self.logical_batch is None) != (self.num_steps is None):
            raise UserError(
                f"logical_batch {self.logical_batch}, num_steps {self.num_steps}: give both of the run in "
                "which the values were tuned, or neither"
            )
        for name in ("logical_batch", "num_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class BatchChange:
    """The change from the run in which values were tuned (base) to a run.

    Horizons are in sequences instead of tokens: D = L · sequences, with the same mean length L (the same
        mixture) in both runs; only the ratio matters.

    Attributes:
        base_batch, base_horizon: B_base, D_base / L.
        logical_batch: B̃, that the run is stated with.
        batch: B, sequences per update.
        horizon: D / L.
    """

    base_batch: int
    base_horizon: int
    logical_batch: int
    batch: int
    horizon: int

    @property
    def num_updates(self) -> int:
        """S = D / (L · B), rounded up: the last update may go past the horizon by less than a batch."""
        return math.ceil(self.horizon / self.batch)


_CARRIED = ("learning_rate", "beta1", "beta2", "eps", "weight_decay")
_UNCHANGED, _TO_COMPARE = "unchanged", "to compare with"


class BatchRule(ABC):
    """How optimizer values scale with batch and horizon.

    `trimask show` prints the result of `explain`, which a rule supplies through `numbers` and `formula`.
    """

    @abstractmethod
    def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
        """Scale the base's optimizer values to the run."""

    @abstractmethod
    def cautions(self, change: BatchChange) -> tuple[str, ...]:
        """Return a sentence, with numbers, for each way in which the rule is used outside its validated
        domain."""

    def numbers(self, change: BatchChange) -> tuple[Derived, ...]:
        """Return the rule's intermediate numbers; none by default."""
        return ()

    def formula(self, name: str) -> tuple[str, str]:
        """Return the scaling of the optimizer's field `name`, such as "× √κ", and its source."""
        return f"by {type(self).__name__}", "the rule's own"

    def explain(self, optimizer: AdamWConfig, change: BatchChange) -> tuple[Derived, ...]:
        """Return `numbers`, then each scaled value with its `formula`."""
        scaled = self.scale(optimizer, change)
        values = []
        for name in _CARRIED:
            how, source = self.formula(name)
            rule = f"{getattr(optimizer, name):g} {how}"
            values.append(Derived(name=name, value=getattr(scaled, name), rule=rule, source=source))
        return (*self.numbers(change), *values)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class KappaRule(BatchRule):
    """The SDE reparametrization [P]: κ = (D_base / D)^γ · (B / B_base), then as `rescale`.

    Scaling twice multiplies the κ, so the logical batch drops out: from the base to (B̃, D), then from B̃ to
        the physical batch B, equals from the base to (B, D).

    Attributes:
        gamma: horizon exponent; 0.44 was fitted for one schedule, data and shape [P]; 1 is Complete(d)P's
            κ = m_B / m_D [L]; 0 leaves the horizon out.
        critical_steps: S_crit: with fewer updates, training no longer follows the equation; with it B_crit =
            D / (L · S_crit) [P]. 500 [D]: our small runs break between 250 and 500
            (experiments/2026-11-22-batch-invariance).
        lowest_kappa, highest_kappa: where the rule is trusted [D].
    """

    gamma: float = 0.44
    critical_steps: int = 500
    lowest_kappa: float = 0.25
    highest_kappa: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 2:
            raise UserError(f"gamma {self.gamma}: the horizon exponent must be in [0, 2]")
        if self.critical_steps < 1:
            raise UserError(f"critical_steps {self.critical_steps}: must be at least 1")
        if not 0 < self.lowest_kappa <= 1 <= self.highest_kappa:
            raise UserError(
                f"lowest_kappa {self.lowest_kappa}, highest_kappa {self.highest_kappa}: the range must hold 1"
            )

    def kappa(self, change: BatchChange) -> float:
        horizon = (change.base_horizon / change.horizon) ** self.gamma
        return horizon * change.batch / change.base_batch

    def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
        return rescale(optimizer, self.kappa(change))

    def numbers(self, change: BatchChange) -> tuple[Derived, ...]:
        return (
            Derived(
                name="κ",
                value=self.kappa(change),
                rule=f"(D_base / D)^γ · B / B_base = ({change.base_horizon:,} / {change.horizon:,})"
                f"^{self.gamma:g} · {change.batch:,} / {change.base_batch:,}",
                source=PAPER,
            ),
            Derived(
                name="critical batch",
                value=critical_batch(change.horizon, self.critical_steps),
                rule=f"D / (L · S_crit), S_crit = {self.critical_steps:,} [D]",
                source=PAPER,
            ),
        )

    def formula(self, name: str) -> tuple[str, str]:
        return {
            "learning_rate": ("× √κ", PAPER),
            "beta1": ("^κ", PAPER),
            "beta2": ("^κ", PAPER),
            "eps": ("/ √κ", PAPER),
            "weight_decay": ("× √κ", f"{OURS}, from Complete(d)P's table"),
        }[name]

    def cautions(self, change: BatchChange) -> tuple[str, ...]:
        found = []
        critical = critical_batch(change.horizon, self.critical_steps)
        # A run with its own values violates nothing, however short.
        if change.batch > max(critical, change.logical_batch):
            found.append(
                f"the physical batch of {change.batch:,} sequences is past the critical one of "
                f"{critical:,.0f}: it leaves {change.num_updates:,} updates, and below "
                f"{self.critical_steps:,} larger steps no longer follow the same path. Use a smaller "
                "physical_batch, or a longer horizon"
            )
        kappa = self.kappa(change)
        if not self.lowest_kappa <= kappa <= self.highest_kappa:
            found.append(
                f"κ = {kappa:.3g} is outside of {self.lowest_kappa:g} to {self.highest_kappa:g}, where the "
                "rule is trusted: tune closer to this batch and horizon, or check a short run"
            )
        return tuple(found)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SquareRootRule(BatchRule):
    """Learning rate × √(B / B_base), all else unchanged: common with Adam; for comparison."""

    def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
        return _faster(optimizer, math.sqrt(change.batch / change.base_batch))

    def formula(self, name: str) -> tuple[str, str]:
        return "× √(B / B_base)" if name == "learning_rate" else _UNCHANGED, _TO_COMPARE

    def cautions(self, change: BatchChange) -> tuple[str, ...]:
        return ()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LinearRule(BatchRule):
    """Learning rate × B / B_base, all else unchanged [L: Goyal et al. 2017, for SGD]; for comparison."""

    def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
        return _faster(optimizer, change.batch / change.base_batch)

    def formula(self, name: str) -> tuple[str, str]:
        return "× B / B_base" if name == "learning_rate" else _UNCHANGED, _TO_COMPARE

    def cautions(self, change: BatchChange) -> tuple[str, ...]:
        return ()


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NoRule(BatchRule):
    """The base's values at any batch and horizon; for comparison."""

    def scale(self, optimizer: AdamWConfig, change: BatchChange) -> AdamWConfig:
        return optimizer

    def formula(self, name: str) -> tuple[str, str]:
        return _UNCHANGED, _TO_COMPARE

    def cautions(self, change: BatchChange) -> tuple[str, ...]:
        return ()


def rescale(optimizer: AdamWConfig, kappa: float) -> AdamWConfig:
    """lr · √κ, β → β^κ, ε / √κ, λ · √κ (docs/method.md) [P; λ: D, from Complete(d)P]; `clip_norm` stays [D].

    β^κ is 1 − κ (1 − β) to first order, and never negative. PyTorch's AdamW decays by lr · λ per update,
    which scales with κ: the decay per token is unchanged.
    """
    assert kappa > 0, kappa
    root = math.sqrt(kappa)
    return replace(
        optimizer,
        learning_rate=optimizer.learning_rate * root,
        beta1=optimizer.beta1**kappa,
        beta2=optimizer.beta2**kappa,
        eps=optimizer.eps / root,
        weight_decay=optimizer.weight_decay * root,
    )


def critical_batch(horizon: int | float, critical_steps: int) -> float:
    """B_crit = D / (L · S_crit) sequences, for a `horizon` of D / L sequences [P]."""
    return horizon / critical_steps


def _faster(optimizer: AdamWConfig, factor: float) -> AdamWConfig:
    return replace(optimizer, learning_rate=optimizer.learning_rate * factor)
