"""Arms of a study compared: what each adds to the losses of another, paired by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import final

from trimask.estimate import Estimate
from trimask.studies.findings import Claim, Table, format_estimate
from trimask.studies.fit import fit_differences
from trimask.studies.study import ALL
from trimask.studies.trial import Result

BASE = "base"
"""The arm without changes."""
MODALITY_MEAN = "mean of modalities"
"""The mean over modalities of their bits per token; `ALL` is the mean over tokens."""
FLOPS, POSITIONS = "training_flops", "positions"
"""What a run takes, and the positions of a mean sequence; from one seed, since all are equal."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The arms that have results, and their differences from the arms that they are compared with.

    Attributes:
        against: the other arm of each, `BASE` by default.
        by_arm: name -> seed -> result, in order.
    """

    against: Mapping[str, str]
    by_arm: Mapping[str, Mapping[int, Result]]

    @classmethod
    def of(cls, results: Sequence[Result], against: Mapping[str, str]) -> "Comparison":
        """Compare the arms `BASE` and those named in `against`, in this order."""
        by_arm: dict[str, dict[int, Result]] = {name: {} for name in (BASE, *against)}
        for result in results:
            by_arm[str(result.factors["arm"])][int(result.factors["seed"])] = result
        return cls(against=against, by_arm={name: row for name, row in by_arm.items() if row})

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses, `ALL` first; those with a prefix (`unconditional/all`) are apart."""
        names = dict.fromkeys(n for row in self.by_arm.values() for r in row.values() for n in r.figures)
        losses = [name for name in names if name not in (FLOPS, POSITIONS) and "/" not in name]
        return (*losses, MODALITY_MEAN) if len(losses) > 2 else tuple(losses)

    def row(self, arm: str, loss: str, prefix: str = "") -> dict[int, float]:
        """Return seed -> loss of an arm, infinite if the run diverged; that without the prefix, if the arm
        has none with it.
        """
        names = [m for m in self.losses if m not in (ALL, MODALITY_MEAN)] if loss == MODALITY_MEAN else [loss]
        found = {}
        for seed, result in self.by_arm.get(arm, {}).items():
            own = [f"{prefix}{name}" if f"{prefix}{name}" in result.figures else name for name in names]
            found[seed] = sum(map(result.figure, own)) / len(own)
        return found

    def mean(self, arm: str, loss: str, prefix: str = "") -> float:
        """Return the mean over seeds, infinite if one diverged or there is none."""
        row = self.row(arm, loss, prefix).values()
        return sum(row) / len(row) if row else math.inf

    def difference(self, arm: str, loss: str, prefix: str = "") -> Estimate | None:
        """Return what an arm adds to a loss of its other; None if one of them has diverged or no result."""
        rows = {name: self.row(name, loss, prefix) for name in self.by_arm}
        finite = {name: row for name, row in rows.items() if all(map(math.isfinite, row.values()))}
        names, other = list(finite), self.against[arm]
        if arm not in finite or other not in finite:
            return None
        return fit_differences(list(finite.values()), names.index(other))[names.index(arm)]

    def cell(self, arm: str, loss: str, prefix: str = "") -> str:
        """Format the base's loss, or what another arm adds."""
        if arm == BASE:
            mean = self.mean(arm, loss, prefix)
            return f"{mean:.3f}" if math.isfinite(mean) else "diverged"
        difference = self.difference(arm, loss, prefix)
        if difference is not None:
            return _signed(difference)
        return "diverged" if self._num_diverged(arm, loss) else "–"

    def claim(self, arm: str, loss: str) -> Claim:
        """Claim that the other has the lower loss: True or False if the difference's interval says so."""
        num_diverged, num_seeds = self._num_diverged(arm, loss), len(self.by_arm[arm])
        other = self.against[arm]
        start = f"{'the base' if other == BASE else other} beats {arm} in {loss}:"
        if num_diverged:
            is_told = num_diverged == num_seeds and math.isfinite(self.mean(other, loss))
            text = f"{start} {num_diverged} of its {num_seeds} runs diverged"
            return Claim(text=text, holds=True if is_told else None)
        difference = self.difference(arm, loss)
        if difference is None:
            return Claim(text=f"{start} the first has no finite result", holds=None)
        text = f"{start} {_signed(difference)} bits/token{self._factor(arm)}"
        is_told = difference.low > 0 or difference.high < 0
        return Claim(text=text, holds=difference.low > 0 if is_told else None)

    def table(self, title: str, prefix: str) -> Table | None:
        """Tabulate the losses with a prefix, of the base and of the arms that have them."""
        figures = {name: {n for r in row.values() for n in r.figures} for name, row in self.by_arm.items()}
        losses = [loss for loss in self.losses if any(f"{prefix}{loss}" in each for each in figures.values())]
        arms = [n for n, each in figures.items() if any(f"{prefix}{loss}" in each for loss in losses)]
        if not arms:
            return None
        arms = arms if BASE in arms or BASE not in self.by_arm else [BASE, *arms]
        rows = [(arm, *(self.cell(arm, loss, prefix) for loss in losses)) for arm in arms]
        return Table(title=title, header=("arm", *losses), rows=tuple(rows))

    def cost_table(self) -> Table | None:
        """Tabulate what the arms cost: what a run needs, and how long the trials took."""
        base, rows = self.cost(BASE), []
        for name, row in self.by_arm.items():
            cost = self.cost(name)
            if cost:
                times = f"{cost[FLOPS] / base[FLOPS]:.3f}" if base else "–"
                seconds = f"{median(result.seconds for result in row.values()):,.0f}"
                rows.append((name, f"{cost[POSITIONS]:.1f}", f"{cost[FLOPS]:.3g}", times, seconds))
        if not rows:
            return None
        return Table(
            title="Cost at equal sequences: positions of a mean sequence, training FLOPs, and the median "
            "time of a trial with its evaluation (beside other processes)",
            header=("arm", "positions", "FLOPs", "× base", "seconds"),
            rows=tuple(rows),
        )

    def cost(self, arm: str) -> dict[str, float]:
        """Return positions and FLOPs, if a seed has measured them."""
        found = {}
        for result in self.by_arm.get(arm, {}).values():
            found |= {name: result.figure(name) for name in (FLOPS, POSITIONS) if name in result.figures}
        return found if FLOPS in found else {}

    def _factor(self, arm: str) -> str:
        own, other = self.cost(arm), self.cost(self.against[arm])
        if not own or not other or own[FLOPS] == other[FLOPS]:
            return ""
        return f", at {own[FLOPS] / other[FLOPS]:.2f} times its FLOPs"

    def _num_diverged(self, arm: str, loss: str) -> int:
        return sum(not math.isfinite(value) for value in self.row(arm, loss).values())


def _signed(difference: Estimate) -> str:
    sign = "+" if difference.value >= 0 else ""
    return sign + format_estimate(difference, digits=3)
