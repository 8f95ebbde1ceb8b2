"""What does each choice of the model and of the loss cost or gain, one at a time?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import final

from trimask.config import override
from trimask.errors import UserError
from trimask.estimate import Estimate
from trimask.planning.workload import workload
from trimask.studies.findings import Claim, Findings, Table, format_estimate
from trimask.studies.fit import fit_differences
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.study import ALL, Study, small_run
from trimask.studies.tokens import load_tokenizers
from trimask.studies.trial import Result, Trial
from trimask.training.run import RunConfig

BASE = "base"
"""The arm without changes."""
MODALITY_MEAN = "mean of modalities"
"""The mean over modalities of their bits per token; `ALL` is the mean over tokens."""
UNCONDITIONAL = "unconditional/"
_FLOPS, _POSITIONS = "training_flops", "positions"
_NO_LOSS = (_FLOPS, _POSITIONS)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A run that differs from the base in one choice.

    Attributes:
        changes: values by path in the run, as on the command line: `{"modalities.image.layout": "Delayed"}`.
            A class of a user's own is named with its file (`mine.py:Steep`).
        judged_by: the losses that its claims are about.
    """

    changes: dict[str, str]
    judged_by: tuple[str, ...] = (ALL,)


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "image_flattened": Arm(changes={"modalities.image.layout": "Flattened"}, judged_by=("image",)),
        "image_delayed": Arm(changes={"modalities.image.layout": "Delayed"}, judged_by=("image",)),
        "speech_flattened": Arm(changes={"modalities.speech.layout": "Flattened"}, judged_by=("speech",)),
        "speech_delayed": Arm(changes={"modalities.speech.layout": "Delayed"}, judged_by=("speech",)),
        "condition_dropout_0": Arm(changes={"objective.condition_dropout": "0"}),
        "condition_dropout_20": Arm(changes={"objective.condition_dropout": "0.2"}),
        "modality_means": Arm(
            changes={"objective.reduction": "ModalityMeans"}, judged_by=(ALL, MODALITY_MEAN)
        ),
        "no_qk_norm": Arm(changes={"model.qk_norm": "none"}),
        "no_qk_norm_half_rate": Arm(
            changes={"model.qk_norm": "none", "optimizer.learning_rate": str(2.0**-7)}
        ),
        "half_rate": Arm(changes={"optimizer.learning_rate": str(2.0**-7)}),
        "image_on_a_line": Arm(changes={"picture_axes": "line"}, judged_by=("image",)),
        "shared_mask": Arm(changes={"mask_tokens": "shared"}),
        "softmax_over_all": Arm(changes={"model.normalization": "all"}),
        "text_unaligned": Arm(changes={"alignment": "Unaligned"}, judged_by=("speech",)),
    }
)


def ablations() -> "Ablations":
    """What does each choice of the model and of the loss cost or gain, one at a time?

    1,000 updates of 16 sequences for the base and for each arm, two seeds.
    """
    return Ablations(base=small_run(learning_rate=2.0**-6), arms=dict(ARMS), seeds=(0, 1))


def ablations_short() -> "Ablations":
    """The same in minutes: 100 updates, which tell large effects alone."""
    full = ablations()
    return replace(full, base=replace(full.base, num_steps=100))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Ablations(Study):
    """The base's run, and runs that each change one choice of it, with the same sequences, updates and
    optimizer values; compared by the NELBO of held-out sequences, paired by seed.

    Raises: UserError for an arm whose name is no file name, whose changes do not fit the run, or that is the
        base; or without seeds.
    """

    base: RunConfig
    arms: dict[str, Arm] = field(default_factory=lambda: dict(ARMS))
    """By name; a study of one's own adds to them: `replace(ablations(), arms={**ARMS, "deep": Arm(…)})`."""
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UserError("the study has no seeds: give one at least, and two for intervals")
        for name, arm in self.arms.items():
            if name == BASE or not name.replace("_", "").replace("-", "").isalnum():
                raise UserError(
                    f"arms.{name}: an arm's name has letters, digits, _ and -, and is not {BASE}: rename it"
                )
            try:
                changed = self._changed(name)
            except UserError as error:
                raise UserError(f"arms.{name}.changes: {error}") from error
            if changed == self.base:
                raise UserError(
                    f"arms.{name}.changes {arm.changes} leave the base as it is: change a value, or remove "
                    "the arm"
                )

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        changed = {name: self._changed(name) for name in (BASE, *self.arms)}
        return tuple(
            Trial(factors={"arm": name, "seed": seed}, config=replace(config, seed=seed))
            for seed in self.seeds
            for name, config in changed.items()
        )

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        step, _ = train(trial.config, folder, tokens)
        figures = evaluate_held_out(trial.config, step.denoiser, tokens)
        dropped = evaluate_held_out(trial.config, step.denoiser, tokens, is_unconditional=True)
        figures |= {f"{UNCONDITIONAL}{name}": value for name, value in dropped.items()}
        if trial.factors["seed"] == self.seeds[0]:  # the same for all seeds
            works = workload(trial.config, load_tokenizers(trial.config))
            figures[_FLOPS] = trial.config.horizon * sum(work.share * work.flops for work in works)
            figures[_POSITIONS] = sum(work.share * work.positions for work in works)
        return figures

    def findings(self, results: Sequence[Result]) -> Findings:
        compared = Comparison.of(results, (BASE, *self.arms))
        claims = [
            compared.claim(name, loss)
            for name, arm in self.arms.items()
            if name in compared.arms
            for loss in arm.judged_by
            if loss in compared.losses
        ]
        tables = [self._table(compared), self._costs(compared), compared.unconditional()]
        num_told = sum(claim.holds is not None for claim in claims)
        return Findings(
            claims=tuple(claims),
            tables=tuple(table for table in tables if table is not None),
            pictures={},
            notes=(
                f"{num_told} of {len(claims)} claims are told. Intervals are of 95 %, so of 20 arms that "
                "change nothing, one is told by chance; the noise is pooled over arms, and paired by seed.",
                "All arms have the base's learning rate: one that needs another looks worse than it is. Try "
                "it as an arm of its own.",
            ),
        )

    def _changed(self, name: str) -> RunConfig:
        return self.base if name == BASE else override(self.base, self.arms[name].changes)

    def _table(self, compared: "Comparison") -> Table:
        base = compared.means(BASE)
        rows = [(BASE, "", *(f"{base[loss]:.3f}" if loss in base else "–" for loss in compared.losses))]
        for name in compared.arms:
            if name != BASE:
                changes = ", ".join(f"{path} {value}" for path, value in self.arms[name].changes.items())
                rows.append((name, changes, *(compared.cell(name, loss) for loss in compared.losses)))
        return Table(
            title="Held-out bits per target token: of the base, and what each arm adds "
            f"({self.base.horizon:,} sequences in {self.base.num_updates:,} updates, the same for all)",
            header=("arm", "changes", *compared.losses),
            rows=tuple(rows),
        )

    def _costs(self, compared: "Comparison") -> Table | None:
        """Tabulate what the arms cost: what an update needs, and how long the trials took."""
        base, rows = compared.cost(BASE), []
        for name in compared.arms:
            cost = compared.cost(name)
            if cost:
                times = f"{cost[_FLOPS] / base[_FLOPS]:.3f}" if base else "–"
                seconds = f"{compared.seconds(name):,.0f}"
                rows.append((name, f"{cost[_POSITIONS]:.1f}", f"{cost[_FLOPS]:.3g}", times, seconds))
        if not rows:
            return None
        return Table(
            title="Cost at equal sequences: positions of a mean sequence, training FLOPs, and the median "
            "time of a trial with its evaluation (beside other processes)",
            header=("arm", "positions", "FLOPs", "× base", "seconds"),
            rows=tuple(rows),
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The arms that have results, and their differences from the base.

    Attributes:
        arms: in order, the base first.
        losses: in order, `ALL` first.
        by_arm: name -> seed -> result.
    """

    arms: tuple[str, ...]
    losses: tuple[str, ...]
    by_arm: Mapping[str, Mapping[int, Result]]

    @classmethod
    def of(cls, results: Sequence[Result], order: Sequence[str]) -> "Comparison":
        by_arm: dict[str, dict[int, Result]] = {}
        for result in results:
            by_arm.setdefault(str(result.factors["arm"]), {})[int(result.factors["seed"])] = result
        names = dict.fromkeys(name for result in results for name in result.figures)
        losses = [name for name in names if name not in _NO_LOSS and not name.startswith(UNCONDITIONAL)]
        if len(losses) > 2:  # of several modalities
            losses.append(MODALITY_MEAN)
        return cls(arms=tuple(n for n in order if n in by_arm), losses=tuple(losses), by_arm=by_arm)

    def row(self, arm: str, loss: str) -> dict[int, float]:
        """Return seed -> loss of an arm, infinite if the run diverged."""
        found = {}
        for seed, result in self.by_arm.get(arm, {}).items():
            parts = [m for m in self.losses if m not in (ALL, MODALITY_MEAN)]
            names = parts if loss == MODALITY_MEAN else [loss]
            found[seed] = sum(result.figure(name) for name in names) / len(names)
        return found

    def difference(self, arm: str, loss: str) -> Estimate | None:
        """Return what an arm adds to a loss of the base; None if one of them has diverged or no result."""
        rows = {name: self.row(name, loss) for name in self.arms}
        finite = {name: row for name, row in rows.items() if all(map(math.isfinite, row.values()))}
        if arm not in finite or BASE not in finite:
            return None
        found = fit_differences(list(finite.values()), list(finite).index(BASE))
        return found[list(finite).index(arm)]

    def means(self, arm: str) -> dict[str, float]:
        """Return the mean over seeds of each loss, without what diverged."""
        rows = {loss: self.row(arm, loss).values() for loss in self.losses}
        means = {loss: sum(row) / len(row) for loss, row in rows.items() if row}
        return {loss: mean for loss, mean in means.items() if math.isfinite(mean)}

    def cell(self, arm: str, loss: str) -> str:
        difference = self.difference(arm, loss)
        if difference is not None:
            return _signed(difference)
        return "diverged" if self._num_diverged(arm, loss) else "–"

    def claim(self, arm: str, loss: str) -> Claim:
        """Claim that the base has the lower loss: True or False if the interval of the difference says so."""
        num_diverged, num_seeds = self._num_diverged(arm, loss), len(self.by_arm[arm])
        start = f"the base beats {arm} in {loss}:"
        if num_diverged:
            is_told = num_diverged == num_seeds and not self._num_diverged(BASE, loss)
            text = f"{start} {num_diverged} of its {num_seeds} runs diverged"
            return Claim(text=text, holds=True if is_told and BASE in self.by_arm else None)
        difference = self.difference(arm, loss)
        if difference is None:
            return Claim(text=f"{start} the base has no finite result", holds=None)
        text = f"{start} {_signed(difference)} bits/token{self._factor(arm)}"
        is_told = difference.low > 0 or difference.high < 0
        return Claim(text=text, holds=difference.low > 0 if is_told else None)

    def unconditional(self) -> Table | None:
        """Tabulate what each arm adds when conditions are hidden, as for guidance."""
        names = dict.fromkeys(n for row in self.by_arm.values() for r in row.values() for n in r.figures)
        losses = tuple(name for name in names if name.startswith(UNCONDITIONAL))
        hidden = replace(self, losses=losses)
        base = hidden.means(BASE)
        if not losses or not base:
            return None
        rows = [(BASE, *(f"{base[loss]:.3f}" if loss in base else "–" for loss in losses))]
        rows += [(arm, *(hidden.cell(arm, loss) for loss in losses)) for arm in self.arms if arm != BASE]
        return Table(
            title="The same with hidden conditions, of tasks that have one",
            header=("arm", *(loss.removeprefix(UNCONDITIONAL) for loss in losses)),
            rows=tuple(rows),
        )

    def cost(self, arm: str) -> dict[str, float]:
        """Return positions and FLOPs, from the seed that measured them."""
        found = {}
        for result in self.by_arm.get(arm, {}).values():
            found |= {name: result.figure(name) for name in _NO_LOSS if name in result.figures}
        return found if _FLOPS in found else {}

    def seconds(self, arm: str) -> float:
        """Return the median time of an arm's trials."""
        return median(result.seconds for result in self.by_arm[arm].values())

    def _factor(self, arm: str) -> str:
        own, base = self.cost(arm), self.cost(BASE)
        if not own or not base or own[_FLOPS] == base[_FLOPS]:
            return ""
        return f", at {own[_FLOPS] / base[_FLOPS]:.2f} times its FLOPs"

    def _num_diverged(self, arm: str, loss: str) -> int:
        return sum(not math.isfinite(value) for value in self.row(arm, loss).values())


def _signed(difference: Estimate) -> str:
    sign = "+" if difference.value >= 0 else ""
    return sign + format_estimate(difference, digits=3)
