"""One value at least of each choice that a run or a sampler is made of: what property tests run over.

`test_design_space.py` fails when a class is in none of these lists.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trimask.diffusion import schedule
from trimask.diffusion.schedule import Cosine, Geometric, Linear, LogLinear, Polynomial, Schedule
from trimask.model.parametrization import CompletedP, Parametrization, Standard
from trimask.sampling import grid
from trimask.sampling.corrector import (
    Corrector,
    PathPlanning,
    ReMDMCap,
    ReMDMConfidence,
    ReMDMLoop,
    ReMDMRescale,
    TokenEditing,
)
from trimask.sampling.count import (
    Ancestral,
    Count,
    EntropyBound,
    FactorRule,
    FirstHitting,
    FrechetBound,
    Scheduled,
    StableAndSure,
    Threshold,
)
from trimask.sampling.filters import Filter, MinP, Temperature, TopK, TopP
from trimask.sampling.grid import Shifted, Tabulated, TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, IntervalGuidance, LinearGuidance
from trimask.sampling.length import Given, Grown, LengthRule, Predicted
from trimask.sampling.order import (
    CalibratedConfidence,
    Checkerboard,
    CoarseFirst,
    Confidence,
    Halton,
    LargestMargin,
    LargestProbability,
    LeftToRight,
    LowestEntropy,
    Order,
    Random,
)
from trimask.sampling.recompute import ConditionFrozen, Everything, Needed, Recompute, RevealedFrozen
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig
from trimask.training.logical_batch import BatchRule, KappaRule, LinearRule, NoRule, SquareRootRule
from trimask.training.lr_schedule import LearningRateSchedule, WarmupCosine, WarmupStableDecay
from trimask.training.reduction import ModalityMeans, Reduction, TokenMean
from trimask.training.times import Independent, Stratified, TimeDraw
from trimask.training.weighting import Bound, PowerOfBound, Unweighted, Weighting
from trimask.vocabulary.alignment import ConstantRate, Even, TextAlignment, Unaligned
from trimask.vocabulary.codebooks import CodebookLayout, Delayed, Flattened, Parallel

SCHEDULES: Sequence[Schedule] = [
    Linear(),
    Cosine(),
    Polynomial(exponent=0.5),
    Polynomial(exponent=3.0),
    Geometric(),
    Geometric(sigma_max=1.0),
    LogLinear(),
    LogLinear(eps=0.2),
    schedule.Tabulated(edges=(0.0, 0.01, 0.3, 1.0), densities=(9.0, 2.0, 0.5)),
]
WEIGHTINGS: Sequence[Weighting] = [
    Bound(),
    Unweighted(),
    PowerOfBound(exponent=0.5),
    PowerOfBound(exponent=0.25),
]
TIME_DRAWS: Sequence[TimeDraw] = [Stratified(), Independent()]
REDUCTIONS: Sequence[Reduction] = [TokenMean(), ModalityMeans()]
BATCH_RULES: Sequence[BatchRule] = [
    KappaRule(),
    KappaRule(gamma=1.0),
    SquareRootRule(),
    LinearRule(),
    NoRule(),
]
LR_SCHEDULES: Sequence[LearningRateSchedule] = [
    WarmupCosine(warmup_fraction=0.2, final_fraction=0.1),
    WarmupCosine(warmup_fraction=0.0),
    WarmupStableDecay(warmup_fraction=0.1, decay_fraction=0.4, final_fraction=0.2),
    WarmupStableDecay(warmup_fraction=0.0, decay_fraction=0.0),
]
LAYOUTS: Sequence[CodebookLayout] = [Flattened(), Parallel(), Delayed()]
ALIGNMENTS: Sequence[TextAlignment] = [Unaligned(), Even(), ConstantRate(frames_per_token=1.4, lead=2.0)]
ORDERS: Sequence[Order] = [
    Random(),
    LeftToRight(),
    Halton(),
    Checkerboard(),
    CoarseFirst(),
    CoarseFirst(inner=Halton()),
    LowestEntropy(),
    LargestMargin(),
    LargestProbability(),
    Confidence(),
    Confidence(noise_temperature=2.0, codebook_penalty=5.0),
    CalibratedConfidence(),
    CalibratedConfidence(noise_temperature=2.0),
]
COUNTS: Sequence[Count] = [
    Scheduled(),
    Ancestral(),
    FirstHitting(),
    Threshold(probability=0.5),
    EntropyBound(nats=0.5),
    FactorRule(factor=1.5),
    FrechetBound(risk=0.7),
    StableAndSure(probability=0.5, nats=0.1),
]
CORRECTORS: Sequence[Corrector] = [
    ReMDMCap(cap=0.1),
    ReMDMRescale(scale=0.3),
    ReMDMConfidence(),
    ReMDMLoop(level=0.3, cap=0.1),
    PathPlanning(),
    TokenEditing(probability=0.6),
]
LENGTHS: Sequence[LengthRule] = [Given(), Predicted(quantile=0.5), Grown(share=0.3)]
RECOMPUTES: Sequence[Recompute] = [
    Everything(),
    ConditionFrozen(),
    ConditionFrozen(renew_every=2),
    RevealedFrozen(),
    RevealedFrozen(renew_every=3),
    Needed(),
    Needed(renew_every=2),
]
FILTERS: Sequence[Filter] = [
    Temperature(value=0.5),
    Temperature(value=0.0),
    Temperature(value=1.2, last=0.0),
    TopK(value=2),
    TopP(value=0.9),
    MinP(value=0.1),
]
GRIDS: Sequence[TimeGrid] = [
    Uniform(),
    grid.Cosine(),
    Shifted(shift=0.1),
    Shifted(shift=10.0),
    Tabulated(times_of_steps=((1.0, 0.4, 0.0), (1.0, 0.8, 0.5, 0.1, 0.0))),
]
RAMPS: Sequence[GuidanceRamp] = [
    ConstantGuidance(),
    LinearGuidance(),
    IntervalGuidance(start=0.2, stop=0.7),
    IntervalGuidance(stop=0.5, ramp=LinearGuidance()),
]
PARAMETRIZATIONS: Sequence[Parametrization] = [
    Standard(),
    CompletedP(base_width=64, base_depth=2, base_num_heads=1),
]
QUANTIZERS: Sequence[QuantizerConfig] = [
    FiniteScalarConfig(levels=(8, 6, 5), num_codebooks=2),
    ResidualVectorConfig(dim=6, codebook_size=16, num_codebooks=3),
]


def kinks(schedule_: Schedule) -> list[float]:
    """Times at which a schedule has two derivatives."""
    if isinstance(schedule_, LogLinear):
        return [1 - schedule_.eps]
    if isinstance(schedule_, schedule.Tabulated):
        return schedule_.inverse(1 - torch.tensor(schedule_.edges, dtype=torch.float64)).tolist()
    return []


DESIGN_SPACE: Mapping[type, Sequence[Any]] = {
    Schedule: SCHEDULES,
    Weighting: WEIGHTINGS,
    TimeDraw: TIME_DRAWS,
    Reduction: REDUCTIONS,
    BatchRule: BATCH_RULES,
    LearningRateSchedule: LR_SCHEDULES,
    CodebookLayout: LAYOUTS,
    TextAlignment: ALIGNMENTS,
    Order: ORDERS,
    Count: COUNTS,
    Corrector: CORRECTORS,
    Recompute: RECOMPUTES,
    LengthRule: LENGTHS,
    Filter: FILTERS,
    TimeGrid: GRIDS,
    GuidanceRamp: RAMPS,
    Parametrization: PARAMETRIZATIONS,
    QuantizerConfig: QUANTIZERS,
}
