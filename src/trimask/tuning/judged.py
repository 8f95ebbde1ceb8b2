"""The second stage of the study of samplers: what the likelihood cannot rank, by judged samples.

Temperature, guidance, truncation and orders that look at drawn codes are tried one after the other, each from
the best so far, on the sampler that the likelihood chose; such an order must be shown to be better. All
samplers get the same prompts and the same random numbers, so they are compared in pairs. At last the presets
are compared with other settings on prompts that the choice never saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float64

from trimask.estimate import Estimate, ratio
from trimask.evaluation.judges.panel import Panel
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import Scheduled, Threshold
from trimask.sampling.filters import Filter, Temperature
from trimask.sampling.grid import Cosine, Shifted
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, LinearGuidance
from trimask.sampling.order import Confidence, DrawnOrder, LargestProbability
from trimask.scorecard.quality import Part, Quality
from trimask.studies.trial import Result
from trimask.tuning.trial import Judgement, SamplerTrial, describe

START, UNGUIDED, OWN = "start", "unguided", "own"
"""Settings: those that the likelihood chose, the tuned ones without guidance, and the run's own."""

STARTING = "starting"
"""The name of the starting defaults."""
_OF_TEXT = SamplerConfig(
    order=LargestProbability(), count=Threshold(probability=0.9), filters=(Temperature(value=0.7),)
)
_OF_IMAGES = SamplerConfig(
    num_steps=64,
    order=Confidence(noise_temperature=4.5),
    grid=Cosine(),
    guidance_scale=5.0,
    guidance_ramp=LinearGuidance(),
)
_OF_SPEECH = SamplerConfig(
    num_steps=32,
    order=Confidence(noise_temperature=5.0, codebook_penalty=5.0),
    grid=Shifted(shift=0.1),
    filters=(Temperature(value=0.0),),
    guidance_scale=3.0,
)
STARTING_DEFAULTS: dict[str, SamplerConfig] = {
    "text": _OF_TEXT,
    "image_to_text": _OF_TEXT,
    "speech_to_text": _OF_TEXT,
    "text_to_image": _OF_IMAGES,
    "text_to_speech": _OF_SPEECH,
}
"""What the literature starts from: a threshold of 0.9 for text, MaskGIT's order with strong guidance for
pictures, OmniVoice's settings for speech [D; L]."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """A guidance scale with its ramp."""

    scale: float
    ramp: GuidanceRamp = ConstantGuidance()

    @property
    def label(self) -> str:
        ramp = "" if self.ramp == ConstantGuidance() else f" {describe(self.ramp)}"
        return f"guidance {self.scale:g}{ramp}"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnLaw:
    """An order that looks at the drawn codes, with what keeps it from emptying a text."""

    order: DrawnOrder
    ends_last: bool = False
    block_length: int | None = None

    @property
    def label(self) -> str:
        more = [
            *(["ends last"] if self.ends_last else []),
            *([] if self.block_length is None else [f"blocks of {self.block_length}"]),
        ]
        return ", ".join([describe(self.order), *more])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """What is tried.

    Attributes:
        qualities: of the tasks that are tuned.
        num_prompts: to choose on; as many others to check on.
        temperatures, guidance, truncations, laws: tried in this order. Guidance is tried for tasks with a
            condition; None in `truncations` is no filter but the temperature.
        baselines: other settings, by name and task, to compare the presets with.
        judges: folders of outside models, or role=NAME_OR_FOLDER, as for `trimask evaluate`.
        judge_names: of these models, by role.
    """

    qualities: dict[str, Quality]
    num_prompts: int
    temperatures: tuple[float, ...]
    guidance: tuple[Guidance, ...]
    truncations: tuple[Filter | None, ...]
    laws: tuple[DrawnLaw, ...]
    baselines: dict[str, dict[str, SamplerConfig]]
    judges: tuple[str, ...] = ()
    judge_names: dict[str, str] = field(default_factory=dict)

    def with_judges(self, words: Sequence[str]) -> "Tuning":
        """Return the same with outside models. UserError for one that is not there."""
        named = {role: judge["name"] for role, judge in Panel.parse(words).as_json().items()}
        return replace(self, judges=tuple(words), judge_names=named)

    def list_unjudged(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return the tasks that cannot be tuned, and why."""
        found = {task: "no quality is known" for task in tasks if task not in self.qualities}
        for task in tasks:
            role = self.qualities[task].judge if task in self.qualities else None
            if role is not None and role not in self.judge_names:
                found[task] = f"no judge {role.replace('_', '-')}: give --judges DIR"
        return found


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Sampled:
    """A sampler with the errors of its samples."""

    label: str
    sampler: SamplerConfig
    result: Result

    @cached_property
    def errors(self) -> Float64[np.ndarray, "prompts"]:
        return column(self.result, "errors")

    @cached_property
    def units(self) -> Float64[np.ndarray, "prompts"]:
        return column(self.result, "units")

    @property
    def rate(self) -> Estimate:
        return ratio(self.errors, self.units)

    @property
    def positions(self) -> float:
        return self.result.figure("positions_per_result")

    @property
    def is_sound(self) -> bool:
        return self.result.figure("is_sound") == 1

    def gap(self, other: "Sampled") -> Estimate:
        """Return the errors per unit that this sampler has more than `other`, paired by prompt."""
        if (self.units == other.units).all():
            return ratio(self.errors - other.errors, self.units)
        # Each text has its own units: the difference of two ratios, linearized.
        mine, its = self.rate.value, other.rate.value
        influence = (self.errors - mine * self.units) / self.units.mean() - (
            other.errors - its * other.units
        ) / other.units.mean()
        around = ratio(influence, np.ones(len(influence)))
        shift = mine - its - around.value
        return Estimate(value=mine - its, low=around.low + shift, high=around.high + shift, n=around.n)


@final
@dataclass(frozen=True, kw_only=True)
class TaskTuning:
    """The tuning of one task on the samplers that the likelihood chose.

    Attributes:
        chosen: by preset name.
        base: the preset that is tuned; the others take over what was found.
        own: the run's settings.
    """

    tuning: Tuning
    weights: str
    task: str
    has_condition: bool
    chosen: Mapping[str, SamplerConfig]
    base: str
    own: SamplerConfig
    seed: int

    def trials(self, results: Mapping[str, Result]) -> list[SamplerTrial]:
        """Return the trials known to be needed."""
        trials, _, is_finished = self._search(results)
        return trials + (self._checks(results) if is_finished else [])

    def rounds(self, results: Mapping[str, Result]) -> list[tuple[str, list[Sampled], Sampled]]:
        """Return the finished rounds: name, what was tried, and the best of it and what was before."""
        return self._search(results)[1]

    def _search(
        self, results: Mapping[str, Result]
    ) -> tuple[list[SamplerTrial], list[tuple[str, list[Sampled], Sampled]], bool]:
        start = self.chosen[self.base]
        first = self._trial("tuning", START, START, start)
        if first.name not in results:
            return [first], [], False
        best = Sampled(label=START, sampler=start, result=results[first.name])
        trials, rounds = [first], []
        for name in ("temperature", "guidance", "truncation", "order", UNGUIDED):
            tried = self._try(name, best.sampler)
            here = {label: self._trial("tuning", name, label, law) for label, law in tried.items()}
            trials += here.values()
            if any(trial.name not in results for trial in here.values()):
                return trials, rounds, False
            if not tried:
                continue
            found = [
                Sampled(label=label, sampler=tried[label], result=results[trial.name])
                for label, trial in here.items()
            ]
            if name == "order":  # it costs the exact likelihood, and mostly more positions
                found_better = [each for each in found if each.gap(best).high < 0]
                best = _choose([best, *found_better])
            elif name != UNGUIDED:
                best = _choose([best, *found])
            rounds.append((name, found, best))
        return trials, rounds, True

    def _try(self, name: str, best: SamplerConfig) -> dict[str, SamplerConfig]:
        """Return the samplers of a round, by label, without `best` itself."""
        found: dict[str, SamplerConfig] = {}
        if name == "temperature":
            found = {f"temperature {t:g}": best.adjust(temperature=t) for t in self.tuning.temperatures}
        elif name == "guidance" and self.has_condition:
            found = {
                each.label: replace(best, guidance_scale=each.scale, guidance_ramp=each.ramp)
                for each in self.tuning.guidance
            }
        elif name == "truncation" and Temperature(value=0.0) not in best.filters:  # it would change nothing
            kept = tuple(each for each in best.filters if isinstance(each, Temperature))
            found = {
                "none" if each is None else describe(each): replace(
                    best, filters=kept if each is None else (*kept, each)
                )
                for each in self.tuning.truncations
            }
        elif name == "order" and best.num_steps is not None:  # these laws have steps
            found = {each.label: _with_law(best, each) for each in self.tuning.laws}
        elif name == UNGUIDED and best.guidance_scale != 1:
            found = {UNGUIDED: _unguided(best)}
        return {label: law for label, law in found.items() if law != best}

    def presets(self, results: Mapping[str, Result]) -> dict[str, SamplerConfig] | None:
        """Return the tuned sampler of each preset; None before the search is finished.

        Guidance costs a second pass: only `best` keeps one that is not shown to be better.
        """
        _, rounds, is_finished = self._search(results)
        if not is_finished:
            return None
        best = rounds[-1][2].sampler if rounds else self.chosen[self.base]
        sparing = best
        for name, found, tuned in rounds:
            if name == UNGUIDED and not tuned.gap(found[0]).high < 0 and found[0].is_sound:
                sparing = found[0].sampler
        last = list(self.chosen)[-1]
        return {
            name: _transfer(best if name == last else sparing, sampler)
            for name, sampler in self.chosen.items()
        }

    def checked(self, results: Mapping[str, Result]) -> list[Sampled]:
        """Return the presets and the settings that they are compared with, on prompts that are new."""
        found = []
        for label, sampler in self._compared(results).items():
            trial = self._trial("check", "check", label, sampler)
            if trial.name in results:
                found.append(Sampled(label=label, sampler=sampler, result=results[trial.name]))
        return found

    def _compared(self, results: Mapping[str, Result]) -> dict[str, SamplerConfig]:
        others = {
            name: samplers[self.task]
            for name, samplers in self.tuning.baselines.items()
            if self.task in samplers
        }
        return {**(self.presets(results) or {}), OWN: self.own, **others}

    def _checks(self, results: Mapping[str, Result]) -> list[SamplerTrial]:
        return [self._trial("check", "check", *each) for each in self._compared(results).items()]

    def _trial(self, part: Part, name: str, label: str, sampler: SamplerConfig) -> SamplerTrial:
        quality = self.tuning.qualities[self.task]
        return SamplerTrial(
            factors={"task": self.task, "judged": name, "setting": label},
            config=Judgement(
                weights=self.weights,
                task=self.task,
                seed=self.seed,
                sampler=sampler,
                quality=quality,
                judge="" if quality.judge is None else self.tuning.judge_names[quality.judge],
                part=part,
                num_prompts=self.tuning.num_prompts,
            ),
        )


def is_judged(result: Result) -> bool:
    """Whether a result is of samples, not of likelihoods."""
    return "judged" in result.factors


def column(result: Result, name: str) -> Float64[np.ndarray, "examples"]:
    """Return the figures `name/0`, `name/1`, … of a result."""
    number = sum(key.startswith(f"{name}/") for key in result.figures)
    return np.array([result.figure(f"{name}/{i}") for i in range(number)], dtype=np.float64)


def _choose(found: Sequence[Sampled]) -> Sampled:
    """Return the sampler of the fewest errors among those that are sound, the first of equals; the first one
    if none is.
    """
    sound = [each for each in found if each.is_sound]
    return min(sound, key=lambda each: each.rate.value) if sound else found[0]


def _with_law(sampler: SamplerConfig, law: DrawnLaw) -> SamplerConfig:
    return replace(
        sampler,
        order=law.order,
        count=Scheduled(),
        ends_last=law.ends_last,
        block_length=law.block_length,
    )


def _unguided(sampler: SamplerConfig) -> SamplerConfig:
    return replace(sampler, guidance_scale=1.0, guidance_ramp=ConstantGuidance())


def _transfer(tuned: SamplerConfig, sampler: SamplerConfig) -> SamplerConfig:
    """Return `sampler` with what was tuned on another one; a law with steps needs a sampler with steps."""
    if isinstance(tuned.order, DrawnOrder) and sampler.num_steps is not None:
        sampler = replace(
            sampler,
            order=tuned.order,
            count=tuned.count,
            ends_last=tuned.ends_last,
            block_length=tuned.block_length,
        )
    return replace(
        sampler,
        filters=tuned.filters,
        guidance_scale=tuned.guidance_scale,
        guidance_ramp=tuned.guidance_ramp,
    )
