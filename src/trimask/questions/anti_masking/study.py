"""Does a mask together with its complement pay, and how much of it do evenly spread times win already?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from trimask.data.stream import TrainingStream
from trimask.diffusion.schedule import Linear
from trimask.errors import UserError
from trimask.questions.anti_masking.arms import EARLY, FINAL, FRESH, SAME, MaskingArm
from trimask.questions.anti_masking.findings import PairComparison
from trimask.studies.findings import Findings
from trimask.studies.gradients import draw_by_modality, measure_draws, train_partly
from trimask.studies.pretraining import evaluate_held_out, train
from trimask.studies.study import Study, small_run
from trimask.studies.trial import Result, Trial
from trimask.training.corruption import ObjectiveConfig
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.training.times import Independent, Stratified
from trimask.vocabulary import sequence


def anti_masking() -> "AntiMasking":
    """Does a mask together with its complement pay, beside independent and beside evenly spread times?

    Single masks, pairs at equal compute, and pairs of all the sequences at twice the compute, each with both
    draws of times: 1,000 updates, two seeds; about 45 minutes of one core.
    """
    return AntiMasking(
        base=small_run(learning_rate=2.0**-7),
        arms={
            "single-independent": MaskingArm(times=Independent()),
            "single-stratified": MaskingArm(times=Stratified()),
            "pair-independent": MaskingArm(times=Independent(), anti_masking=True),
            "pair-stratified": MaskingArm(times=Stratified(), anti_masking=True),
            "pair-twice-compute-independent": MaskingArm(times=Independent(), anti_masking=True, compute=2),
            "pair-twice-compute-stratified": MaskingArm(times=Stratified(), anti_masking=True, compute=2),
        },
        reference="single-stratified",
        seeds=(0, 1),
    )


def anti_masking_short() -> "AntiMasking":
    """The same in minutes: 120 updates, one seed, fewer draws, twice the compute with even times alone."""
    full = anti_masking()
    return replace(
        full,
        base=replace(full.base, num_steps=120),
        arms={name: arm for name, arm in full.arms.items() if name != "pair-twice-compute-independent"},
        seeds=(0,),
        num_draws=16,
    )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class AntiMasking(Study):
    """Runs with one masked view of each sequence or with two complementary ones, crossed with how times are
    drawn. In the reference arm, loss and gradient of each arm are drawn many times at two checkpoints: for
    the same sequences, which leaves the noise of times and masks, and for other ones each time, which is what
    an update sees.
    """

    base: RunConfig
    arms: dict[str, MaskingArm]
    reference: str
    """The arm at whose weights the noise of all is measured."""
    seeds: tuple[int, ...]
    early: float = 0.1
    """The early checkpoint, as a fraction of the updates."""
    num_draws: int = 64
    """Draws of loss and gradient of each arm, modality, checkpoint and kind of noise."""
    num_views: int = 8
    """Views of one modality in a draw: as many as a task has in an update of some size."""

    def __post_init__(self) -> None:
        if self.reference not in self.arms:
            raise UserError(f"reference {self.reference!r}: name one of the arms")
        if not 0 < self.early < 1:
            raise UserError(f"early is {self.early}: give a fraction of the updates between 0 and 1")
        if self.num_draws < 8 or self.num_draws % 4:
            raise UserError(f"num_draws is {self.num_draws}: give a multiple of 4, at least 8, for intervals")
        if self.num_views < 2 or self.num_views % 2:
            raise UserError(f"num_views is {self.num_views}: a pair has two views, give an even number")

    def trials(self, results: Mapping[str, Result]) -> tuple[Trial, ...]:
        return tuple(self._trial(name, arm, seed) for seed in self.seeds for name, arm in self.arms.items())

    def measure(self, trial: Trial, folder: Path, tokens: Path) -> dict[str, float]:
        figures: dict[str, float] = {}
        config = trial.config
        if trial.factors["arm"] == self.reference:
            begun = max(1, round(self.early * config.num_updates))
            figures |= self._measure_noise(*train_partly(config, tokens, num_updates=begun), EARLY)
        step, stream = train(config, folder, tokens)
        if trial.factors["arm"] == self.reference:
            figures |= self._measure_noise(step, stream, FINAL)
        return figures | evaluate_held_out(config, step.denoiser, tokens)

    def findings(self, results: Sequence[Result]) -> Findings:
        return PairComparison(
            base=self.base,
            arms=self.arms,
            reference=self.reference,
            num_views=self.num_views,
            num_draws=self.num_draws,
            results=tuple(results),
        ).findings()

    def _trial(self, name: str, arm: MaskingArm, seed: int) -> Trial:
        rows = {name: replace(row, schedule=Linear()) for name, row in self.base.modalities.items()}
        return Trial(
            factors={"arm": name, "seed": seed},
            config=replace(
                self.base,
                modalities=rows,
                objective=replace(self.base.objective, anti_masking=arm.anti_masking, times=arm.times),
                logical_batch=self.base.logical_batch * arm.compute,
                seed=seed,
            ),
        )

    def _measure_noise(self, step: DenoiserStep, stream: TrainingStream, when: str) -> dict[str, float]:
        """Return the variance of loss and gradient of a batch of each modality under each arm."""
        figures: dict[str, float] = {}
        most = max(arm.num_sequences(self.num_views) for arm in self.arms.values())
        for modality, pool in draw_by_modality(stream, number=most * self.num_draws).items():
            for name, arm in self.arms.items():
                for kind in (SAME, FRESH):
                    objective = ObjectiveConfig(
                        anti_masking=arm.anti_masking, times=arm.times, condition_dropout=0.0
                    )
                    drawn = measure_draws(step.denoiser, self._draws(pool, arm, kind), objective)
                    for what, (value, error) in drawn.variances().items():
                        figures[f"{what}/{when}/{kind}/{name}/{modality}"] = value
                        figures[f"{what}_error/{when}/{kind}/{name}/{modality}"] = error
        return figures

    def _draws(
        self, pool: Sequence[sequence.Sequence], arm: MaskingArm, kind: str
    ) -> Iterator[tuple[int, list[sequence.Sequence]]]:
        """Yield the number of a set, and the sequences of a draw of it.

        A pair at equal compute has half as many: for `SAME`, draws take turns over those of the single view.
        """
        number = arm.num_sequences(self.num_views)
        for draw in range(self.num_draws):
            start = draw * number if kind == FRESH else draw // 2 * number % self.num_views
            yield (0 if kind == FRESH else start), list(pool[start : start + number])
