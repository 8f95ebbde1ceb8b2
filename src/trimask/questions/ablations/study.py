"""What does each choice of the model and of the loss cost or gain, one at a time?"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import final

from trimask.config import override
from trimask.errors import UserError
from trimask.model.head import Normalization
from trimask.planning.workload import workload
from trimask.questions.ablations.comparison import BASE, FLOPS, MODALITY_MEAN, POSITIONS, Comparison
from trimask.studies.findings import Findings, Table
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.study import ALL, Study, small_run
from trimask.studies.tokens import load_tokenizers
from trimask.studies.trial import Result, Trial
from trimask.training.run import RunConfig

UNCONDITIONAL, SAMPLED = "unconditional/", "sampled/"
"""Prefixes of losses: with hidden conditions; and of the distribution that is sampled from, if another one's
loss is trained.
"""
_DOUBLE = {"optimizer.learning_rate": str(2.0**-5)}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A run that differs from the base in one choice.

    Attributes:
        changes: values by path in the run, as on the command line: `{"modalities.image.layout": "Delayed"}`.
            A class of a user's own is named with its module, or with its file by an absolute path
            (`…/mine.py:Steep`): the study's folder keeps no copy of it.
        judged_by: the losses that its claims are about.
        against: the arm that it is compared with.
    """

    changes: dict[str, str]
    judged_by: tuple[str, ...] = (ALL,)
    against: str = BASE


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
        # QK-norm is said to allow higher learning rates, so it is judged at two.
        "no_qk_norm": Arm(changes={"model.qk_norm": "none"}),
        "double_rate": Arm(changes=_DOUBLE),
        "double_rate_no_qk_norm": Arm(changes={"model.qk_norm": "none", **_DOUBLE}, against="double_rate"),
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
    """The same in minutes: 80 updates, which tell large effects alone."""
    full = ablations()
    return replace(full, base=replace(full.base, num_steps=80))


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
            if arm.against == name or arm.against not in (BASE, *self.arms):
                raise UserError(
                    f"arms.{name}.against is {arm.against!r}: name {BASE} or another arm of the study"
                )
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
        if trial.config.model.normalization is not Normalization.CODEBOOK:
            sampled = copy.copy(step.denoiser)  # with the same weights
            sampled.config = replace(sampled.config, normalization=Normalization.CODEBOOK)
            losses = evaluate_held_out(trial.config, sampled, tokens)
            figures |= {f"{SAMPLED}{name}": value for name, value in losses.items()}
        if trial.factors["seed"] == self.seeds[0]:  # the same for all seeds
            works = workload(trial.config, load_tokenizers(trial.config))
            figures[FLOPS] = trial.config.horizon * sum(work.share * work.flops for work in works)
            figures[POSITIONS] = sum(work.share * work.positions for work in works)
        return figures

    def findings(self, results: Sequence[Result]) -> Findings:
        compared = Comparison.of(results, {name: arm.against for name, arm in self.arms.items()})
        claims = [
            compared.claim(name, loss)
            for name, arm in self.arms.items()
            if name in compared.by_arm
            for loss in arm.judged_by
            if loss in compared.losses
        ]
        tables = [
            self._table(compared),
            compared.cost_table(),
            compared.table("The same with hidden conditions, of tasks that have one", UNCONDITIONAL),
            compared.table("Of the distribution that is sampled from, over a slot's own codes", SAMPLED),
        ]
        num_told = sum(claim.holds is not None for claim in claims)
        return Findings(
            claims=tuple(claims),
            tables=tuple(table for table in tables if table is not None),
            pictures={},
            notes=(
                f"{num_told} of {len(claims)} claims are told. Intervals are of 95 %, so of 20 arms that "
                "change nothing, one is told by chance; the noise is pooled over arms, and paired by seed.",
                "But for arms about it, all have the base's learning rate: one that needs another looks "
                "worse than it is. Try it as an arm of its own.",
            ),
        )

    def _changed(self, name: str) -> RunConfig:
        return self.base if name == BASE else override(self.base, self.arms[name].changes)

    def _table(self, compared: Comparison) -> Table:
        rows = []
        for name in compared.by_arm:
            arm = self.arms.get(name, Arm(changes={}))
            changes = ", ".join(f"{path} {value}" for path, value in arm.changes.items())
            if arm.against != BASE:
                changes += f" (against {arm.against})"
            rows.append((name, changes, *(compared.cell(name, loss) for loss in compared.losses)))
        return Table(
            title="Held-out bits per target token: of the base, and what each arm adds "
            f"({self.base.horizon:,} sequences in {self.base.num_updates:,} updates, the same for all)",
            header=("arm", "changes", *compared.losses),
            rows=tuple(rows),
        )
