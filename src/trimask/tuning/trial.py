"""The trials of the study of samplers: an exact likelihood, an information profile, or judged samples."""

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from trimask.config import fingerprint
from trimask.evaluation.judges.panel import Panel
from trimask.sampling.backends import TORCH, find_backend
from trimask.sampling.canvas import Canvas
from trimask.sampling.config import SamplerConfig
from trimask.sampling.counting import CountingPredictor
from trimask.sampling.likelihood import measure_sampler_likelihood
from trimask.sampling.order import FixedOrder
from trimask.sampling.predictor import DenoiserPredictor
from trimask.sampling.profile import measure_profile
from trimask.scorecard.evaluate import TrainedModel, load_model
from trimask.scorecard.quality import Asked, Part, Quality
from trimask.studies.model_study import StudiedRun, draw_held_out
from trimask.studies.trial import Factor, trial_name
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence as Document

BACKEND = "backend"
"""The factor of likelihoods under predictions of other backends."""
_MOST_PASSES = 128  # assumed of a count that sets them itself, for the estimate of time [D]
_BATCH = 16


# Not final, so that no configuration can choose it: with a corrector it would be another law.
@dataclass(frozen=True, kw_only=True, slots=True)
class Held(FixedOrder):
    """The order `inner` with the same noise in each pass: without a corrector, the same law.

    Samplers that differ in grid or count then reveal a sequence's slots in the same order, and their
    difference has far less noise.
    """

    inner: FixedOrder

    def rank(self, canvas: Canvas, step: int) -> Float64[np.ndarray, "slots"]:
        return self.inner.rank(canvas, 0)


def hold_order(sampler: SamplerConfig) -> SamplerConfig:
    """Return a sampler of the same law whose fixed orders draw their noise once per sequence."""
    sampler = replace(sampler, targets={name: hold_order(each) for name, each in sampler.targets.items()})
    if isinstance(sampler.order, FixedOrder) and sampler.corrector is None:
        return replace(sampler, order=Held(inner=sampler.order))
    return sampler


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement(ABC):
    """All that decides what a trial measures.

    Attributes:
        weights: hash of the model's weights.
    """

    weights: str
    task: str
    seed: int
    sampler: SamplerConfig

    @property
    @abstractmethod
    def num_sequences(self) -> int:
        """The most sequences."""

    @property
    def num_passes(self) -> int:
        """The most passes over a sequence."""
        steps = self.sampler.num_steps or _MOST_PASSES
        return steps if self.sampler.guidance_scale == 1 else 2 * steps

    @abstractmethod
    def measure(self, run: StudiedRun, tokens: Path, judges: Sequence[str]) -> dict[str, float]:
        """Measure a run, whose held-out sequences are kept in `tokens`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _OnHeldOut(Measurement):
    """Held-out sequences of a task, until they have `num_tokens` targets: at least two, at most
    `most_sequences`.
    """

    most_sequences: int
    num_tokens: int

    @property
    def num_sequences(self) -> int:
        return self.most_sequences

    def _draw(self, run: StudiedRun, vocabulary: Vocabulary, tokens: Path) -> tuple[list[Document], ...]:
        """Return sequences to measure on, and as many others."""
        most = self.most_sequences
        drawn = draw_held_out(run, vocabulary, tokens, self.task, number=2 * most, seed=self.seed)
        sizes = np.cumsum([each.maskable.sum() for each in drawn[:most]])
        number = min(max(int(np.searchsorted(sizes, self.num_tokens)) + 1, 2), most)
        return list(drawn[:number]), list(drawn[most : most + number])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Profile(_OnHeldOut):
    """The information profile of the sampler's order, on other sequences than the likelihoods, and the best
    times for some numbers of steps.
    """

    num_levels: int
    numbers_of_steps: tuple[int, ...]

    @property
    def num_passes(self) -> int:
        return self.num_levels - 1

    def measure(self, run: StudiedRun, tokens: Path, judges: Sequence[str]) -> dict[str, float]:
        denoiser = run.load_denoiser()
        profile = measure_profile(
            DenoiserPredictor(denoiser),
            self._draw(run, denoiser.vocabulary, tokens)[1],
            hold_order(self.sampler),
            num_levels=self.num_levels,
            seed=self.seed,
            batch_size=_BATCH,
        )
        best = {n: profile.find_best_times(n) for n in self.numbers_of_steps}
        return {f"predicted/{n}": profile.evaluate(times) for n, times in best.items()} | {
            f"time/{n}/{k}": at for n, times in best.items() for k, at in enumerate(times)
        }


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihood(_OnHeldOut):
    """The exact likelihood of held-out sequences under the sampler, with predictions of a backend."""

    backend: str = TORCH

    def measure(self, run: StudiedRun, tokens: Path, judges: Sequence[str]) -> dict[str, float]:
        denoiser = run.load_denoiser()
        documents = self._draw(run, denoiser.vocabulary, tokens)[0]
        computed: list[int] = []
        predictor = CountingPredictor(find_backend(self.backend)(denoiser), computed.append)
        began = time.process_time()
        found = measure_sampler_likelihood(
            predictor, documents, hold_order(self.sampler), seed=self.seed, batch_size=_BATCH
        )
        seconds = time.process_time() - began
        nats = np.sum(list(found.nats.values()), axis=0)
        num_tokens = np.sum(list(found.num_tokens.values()), axis=0)
        return {
            "passes": float(found.num_passes.mean()),
            "position_passes_per_token": sum(computed) / float(num_tokens.sum()),
            "cpu_seconds": round(seconds, 2),
            **{f"nats/{i}": round(float(each), 4) for i, each in enumerate(nats)},
            **{f"tokens/{i}": float(each) for i, each in enumerate(num_tokens)},
        }


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement(Measurement):
    """The errors of samples.

    Attributes:
        judge: name of the outside model that the quality needs; empty for none.
    """

    quality: Quality
    judge: str
    part: Part
    num_prompts: int

    @property
    def num_sequences(self) -> int:
        return self.num_prompts

    def measure(self, run: StudiedRun, tokens: Path, judges: Sequence[str]) -> dict[str, float]:
        run.load_denoiser()  # checks the weights
        model = _load_model(run.path, run.data, self.seed)
        computed: list[int] = []
        generator = model.generator
        own, inner = generator.samplers, generator.predictor
        generator.samplers = {**own, self.task: self.sampler}
        generator.predictor = CountingPredictor(inner, computed.append)
        asked = Asked(
            generator=generator,
            examples=model.examples,
            judges=Panel.parse(judges),
            part=self.part,
            number=self.num_prompts,
            seed=self.seed,
        )
        try:
            judged = self.quality.measure(asked)
        finally:
            generator.samplers, generator.predictor = own, inner
        number = len(judged.errors)
        return {
            "positions_per_result": sum(computed) / number,
            "cpu_seconds": round(sum(asked.seconds), 2),
            "is_sound": float(self.quality.is_sound(judged.figures)),
            **judged.figures,
            **{f"errors/{i}": round(float(each), 5) for i, each in enumerate(judged.errors)},
            **{f"units/{i}": float(each) for i, each in enumerate(judged.units)},
        }


@functools.lru_cache(maxsize=1)  # trials of a process judge the same model
def _load_model(path: str, data: tuple[Path, ...], seed: int) -> TrainedModel:
    return load_model(path, held_out="validation", seed=seed, data=data)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerTrial:
    """One measurement: the factors that set it apart from the study's others, and all that decides it."""

    factors: Mapping[str, Factor]
    config: Measurement

    @property
    def name(self) -> str:
        return trial_name(self.factors)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.config)


def is_candidate(trial: SamplerTrial) -> bool:
    """Whether a preset may have the sampler of a trial: it was ranked by its likelihood."""
    return isinstance(trial.config, Likelihood) and BACKEND not in trial.factors


def describe(part: Any) -> str:
    """Return the class of a part of a sampler, with the fields that differ from their defaults."""
    given = [
        f"{each.name}={getattr(part, each.name)}"
        for each in fields(part)
        if each.default is MISSING or getattr(part, each.name) != each.default
    ]
    return type(part).__name__ + (f"({', '.join(given)})" if given else "")
