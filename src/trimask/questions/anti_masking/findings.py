"""What the trials of the study of anti-masking tell."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from trimask.diffusion.schedule import MINIMUM_MASK_RATIO
from trimask.estimate import Estimate
from trimask.questions.anti_masking.arms import EARLY, FINAL, FRESH, SAME, MaskingArm, flat_gain
from trimask.studies.findings import Claim, Findings, Table, format_estimate
from trimask.studies.paired import describe_intervals, paired_differences, verdict
from trimask.studies.study import ALL
from trimask.studies.trial import Result
from trimask.training.run import RunConfig

_NORMAL = 1.96  # standard errors of a 95 % interval
_SEEN = 1e-3  # the least mask ratio among some thousand draws, about


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PairComparison:
    """Results by arm: pairs beside single views with the same draw of times. Fields as in `AntiMasking`."""

    base: RunConfig
    arms: Mapping[str, MaskingArm]
    reference: str
    num_views: int
    num_draws: int
    results: tuple[Result, ...]

    def findings(self) -> Findings:
        tables, claims = [], []
        losses = list(dict.fromkeys(name for result in self.results for name in result.figures))
        for loss in [name for name in losses if "/" not in name]:
            found = self._losses(loss)
            tables.append(self._loss_table(loss, found))
            claims += self._loss_claims(loss, found)
        for what in ("gradient", "loss"):
            rows = list(self._variance_rows(what))
            if rows:
                tables.append(self._variance_table(what, rows))
        claims += self._variance_claims()
        return Findings(claims=tuple(claims), tables=tuple(tables), pictures={}, notes=self._notes())

    @property
    def modalities(self) -> list[str]:
        """The modalities whose noise was measured."""
        start = f"gradient/{FINAL}/{SAME}/"
        keys = [key for result in self.results for key in result.figures if key.startswith(start)]
        return list(dict.fromkeys(key.rpartition("/")[2] for key in keys))

    def single_of(self, arm: MaskingArm) -> str | None:
        """Return the arm of single views with the same draw of times, by name."""
        wanted = MaskingArm(times=arm.times)
        return next((name for name, each in self.arms.items() if each == wanted), None)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each arm of pairs, and that of single views beside it."""
        for name, arm in self.arms.items():
            single = self.single_of(arm)
            if arm.anti_masking and single is not None:
                yield name, single

    def _losses(self, loss: str) -> dict[str, dict[int, float]]:
        """Return arm -> seed -> held-out loss, infinite if the run diverged; no arm that is not run."""
        found: dict[str, dict[int, float]] = {}
        for result in self.results:
            row = found.setdefault(str(result.factors["arm"]), {})
            row[int(result.factors["seed"])] = result.figure(loss)
        return {name: found[name] for name in self.arms if name in found}

    def _loss_table(self, loss: str, losses: Mapping[str, Mapping[int, float]]) -> Table:
        beside = {pair: paired_differences(losses, single).get(pair) for pair, single in self._pairs()}
        from_reference = paired_differences(losses, self.reference)
        rows = []
        for name, seeds in losses.items():
            mean = float(np.mean(list(seeds.values())))
            arm = self.arms[name]
            rows.append(
                (
                    name,
                    f"{arm.compute}",
                    f"{arm.num_sequences(self.base.logical_batch)}",
                    f"{mean:.3f}" if math.isfinite(mean) else "diverged",
                    "0" if name == self.reference else _format(from_reference.get(name), 3),
                    _format(beside.get(name), 3),
                )
            )
        return Table(
            title=f"{loss}: held-out NELBO in bits per token after {self.base.num_updates:,} updates",
            header=(
                "arm",
                "compute",
                "sequences per update",
                "NELBO",
                f"from {self.reference}",
                "from single views with such times",
            ),
            rows=tuple(rows),
        )

    def _loss_claims(self, loss: str, losses: Mapping[str, Mapping[int, float]]) -> Iterator[Claim]:
        for pair, single in self._pairs():
            found = paired_differences(losses, single).get(pair)
            if found is not None:
                yield Claim(
                    text=f"{loss}: {pair} has a lower NELBO than {single}, at {self._cost(pair)}: it differs "
                    f"by {format_estimate(found, 3)} bits per token",
                    holds=verdict(found),
                )

    def _cost(self, name: str) -> str:
        compute = self.arms[name].compute
        return "equal compute" if compute == 1 else f"{compute} times the compute"

    def _ratio(
        self, what: str, when: str, kind: str, over: str, under: str, modality: str
    ) -> Estimate | None:
        """Return the mean over seeds of one arm's variance divided by another's (geometric)."""
        logs, squares = [], []
        for result in self.results:
            keys = [f"{when}/{kind}/{arm}/{modality}" for arm in (over, under)]
            values = [result.figures.get(f"{what}/{key}") for key in keys]
            errors = [result.figures.get(f"{what}_error/{key}") for key in keys]
            known = [(v, e) for v, e in zip(values, errors, strict=True) if v and e is not None]
            if len(known) == 2:
                (a, error_a), (b, error_b) = known
                logs.append(math.log(a / b))
                squares.append((error_a / a) ** 2 + (error_b / b) ** 2)
        if not logs:
            return None
        value, margin = float(np.mean(logs)), _NORMAL * math.sqrt(sum(squares)) / len(logs)
        return Estimate(value=math.exp(value), low=math.exp(value - margin), high=math.exp(value + margin))

    def _variance_rows(self, what: str) -> Iterator[tuple[str, ...]]:
        for modality in self.modalities:
            for pair, single in self._pairs():
                cells = [
                    self._ratio(what, when, kind, single, pair, modality)
                    for kind in (SAME, FRESH)
                    for when in (EARLY, FINAL)
                ]
                if any(cells):
                    is_equal = self.arms[pair].compute == 1
                    closed = f"{flat_gain(_SEEN):.2f}" if is_equal else f"{2 * flat_gain(_SEEN):.2f}"
                    yield (modality, pair, *(_format(cell, 2) for cell in cells), closed)

    def _variance_table(self, what: str, rows: list[tuple[str, ...]]) -> Table:
        return Table(
            title=f"Variance of the {what}: single views divided by the pair, {self.num_views} single views "
            "of one modality (above 1 the pair wins)",
            header=(
                "modality",
                "arm",
                *(f"{kind}, {when}" for kind in (SAME, FRESH) for when in (EARLY, FINAL)),
                "flat cross-entropy",
            ),
            rows=tuple(rows),
        )

    def _variance_claims(self) -> Iterator[Claim]:
        for modality in self.modalities:
            for pair, single in self._pairs():
                ratio = self._ratio("gradient", FINAL, FRESH, single, pair, modality)
                if ratio is not None:
                    yield Claim(
                        text=f"{modality}: {pair} has less gradient variance than {single} at "
                        f"{self._cost(pair)}, with sequences that differ: single / pair is "
                        f"{format_estimate(ratio)}",
                        holds=_is_above_one(ratio),
                    )
            for even, by_chance in self._draws_of_times():
                ratio = self._ratio("gradient", FINAL, FRESH, by_chance, even, modality)
                if ratio is not None:
                    yield Claim(
                        text=f"{modality}: {even} has less gradient variance than {by_chance}, with "
                        f"sequences that differ: {by_chance} / {even} is {format_estimate(ratio)}",
                        holds=_is_above_one(ratio),
                    )

    def _draws_of_times(self) -> Iterator[tuple[str, str]]:
        """Yield the reference, and each arm that differs from it by its times alone."""
        own = self.arms[self.reference]
        for name, arm in self.arms.items():
            alike = (arm.anti_masking, arm.compute) == (own.anti_masking, own.compute)
            if alike and name != self.reference:
                yield self.reference, name

    def _notes(self) -> tuple[str, ...]:
        base = self.base
        return (
            f"Held fixed: {base.num_updates:,} updates, {base.logical_batch} views in each at compute 1, and "
            "the learning rate. A pair at equal compute sees half as many sequences, so half the data; at "
            "twice the compute it sees those of the single views. Models are compared by one exact NELBO, on "
            f"the same held-out sequences and masks. {describe_intervals(self.results)}",
            f"Variances are of {self.num_draws} draws at the weights of {self.reference}. With "
            f"{SAME} the noise is that of times and masks alone; with {FRESH} it is all that an update sees, "
            "and it is what training feels. Their tails are heavy: what no draw met, no interval covers.",
            "Closed form at flat cross-entropy: a view of mask ratio u has variance (1 − u)/u per token, a "
            "pair 1/(4u(1 − u)) − 1. Over u in (ε, 1 − ε), pairs win by (ln(1/ε) − 1)/(ln(1/ε) − 2) at "
            f"equal compute: {flat_gain(_SEEN):.2f} for ε = {_SEEN:g}, about what so many draws meet, and "
            f"{flat_gain(MINIMUM_MASK_RATIO):.2f} for ε = {MINIMUM_MASK_RATIO:g}, the least of a run. This "
            "counts neither that cross-entropy rises with the mask ratio, where even times alone win what "
            "the pair would, nor that pairs have fewer sequences.",
            self._verdict(),
        )

    def _verdict(self) -> str:
        """Say in one sentence whether the pair pays with the reference's times."""
        own = self.arms[self.reference].times
        equal = [(p, s) for p, s in self._pairs() if self.arms[p].compute == 1 and self.arms[p].times == own]
        for pair, single in equal:
            found = paired_differences(self._losses(ALL), single).get(pair)
            if found is not None:
                held = verdict(found)
                words = {True: "pays", False: "costs", None: "cannot be told from the single view"}[held]
                return (
                    f"With the times of {self.reference}, anti-masking {words} at equal compute: the NELBO "
                    f"of all tokens differs by {format_estimate(found, 3)} bits per token."
                )
        return "Whether anti-masking pays cannot be told yet: its arm or the single view's is not run."


def _is_above_one(ratio: Estimate) -> bool | None:
    return True if ratio.low > 1 else False if ratio.high < 1 else None


def _format(estimate: Estimate | None, digits: int) -> str:
    return "–" if estimate is None else format_estimate(estimate, digits)
