"""Which sampler is the best at which cost? By exact likelihood, and then by judged samples."""

from dataclasses import replace

from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import (
    EntropyBound,
    FactorRule,
    FrechetBound,
    StableAndSure,
    Threshold,
)
from trimask.sampling.filters import MinP, TopP
from trimask.sampling.grid import Cosine, Shifted, Uniform
from trimask.sampling.guidance import IntervalGuidance, LinearGuidance
from trimask.sampling.order import (
    CalibratedConfidence,
    CoarseFirst,
    Confidence,
    LargestMargin,
    LargestProbability,
    LowestEntropy,
    Random,
)
from trimask.sampling.recompute import ConditionFrozen, Needed, RevealedFrozen
from trimask.scorecard.quality import QUALITIES
from trimask.studies.model_study import identify_run
from trimask.tuning.judged import (
    STARTING,
    STARTING_DEFAULTS,
    DrawnLaw,
    Guidance,
    Tuning,
)
from trimask.tuning.study import Sampling


def sampling() -> Sampling:
    """Which sampler is the best at which cost? Any trained run.

    First by exact likelihood on held-out sequences, then by judged samples (--judges); ends with the presets
    fast, balanced and best of each task.
    """
    return Sampling(
        run=identify_run("quickstart"),
        num_sequences=96,
        num_tokens=8000,
        num_levels=65,
        numbers_of_steps=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64),
        grids=(Uniform(), Cosine(), Shifted(shift=3.0)),
        fixed_orders=(Random(), CoarseFirst()),
        limit_orders=(Random(), CoarseFirst()),
        evidence_orders=(LowestEntropy(), LargestMargin(), LargestProbability()),
        evidence_steps=(4, 8, 16, 32),
        adaptive=tuple(
            SamplerConfig(order=order, count=count)
            for order, counts in (
                (LowestEntropy(), [EntropyBound(nats=nats) for nats in (0.1, 1.0, 4.0)]),
                (LargestProbability(), [Threshold(probability=p) for p in (0.9, 0.7, 0.5)]),
                (LargestProbability(), [FactorRule(factor=factor) for factor in (1.0, 2.0, 4.0)]),
                (LargestProbability(), [FrechetBound(risk=risk) for risk in (0.5, 2.0, 8.0)]),
                (LargestProbability(), [StableAndSure(probability=p, nats=0.1) for p in (0.9, 0.5)]),
            )
            for count in counts
        ),
        policies=(
            *(Needed(renew_every=every) for every in (None, 4, 2)),
            *(RevealedFrozen(renew_every=every) for every in (None, 4)),
            *(ConditionFrozen(renew_every=every) for every in (None, 4)),
        ),
        backends=("onnx", "onnx-int8"),
        tuning=Tuning(
            qualities=dict(QUALITIES),
            num_prompts=96,
            temperatures=(0.0, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0),
            guidance=(
                *(Guidance(scale=scale) for scale in (1.0, 1.5, 2.0, 3.0)),
                *(Guidance(scale=scale, ramp=LinearGuidance()) for scale in (2.0, 4.0)),
                Guidance(scale=2.0, ramp=IntervalGuidance(stop=0.5)),
                Guidance(scale=2.0, ramp=IntervalGuidance(start=0.25, stop=0.75)),
            ),
            truncations=(None, TopP(value=0.95), TopP(value=0.9), MinP(value=0.05)),
            laws=(
                DrawnLaw(order=Confidence()),
                DrawnLaw(order=Confidence(), ends_last=True),
                DrawnLaw(order=Confidence(noise_temperature=1.0)),
                DrawnLaw(order=CalibratedConfidence(), ends_last=True),
                DrawnLaw(order=CalibratedConfidence(noise_temperature=1.0)),
            ),
            baselines={STARTING: STARTING_DEFAULTS},
        ),
    )


def sampling_short() -> Sampling:
    """The same with about 1,000 target tokens a task, fewer steps and strengths: a first look."""
    whole, tuning = sampling(), sampling().tuning
    assert tuning is not None
    return replace(
        whole,
        num_sequences=16,
        num_tokens=1000,
        num_levels=33,
        numbers_of_steps=(4, 8, 16, 32),
        grids=(Uniform(), Cosine()),
        limit_orders=(Random(),),
        evidence_steps=(8, 16),
        adaptive=(
            SamplerConfig(order=LowestEntropy(), count=EntropyBound(nats=4.0)),
            SamplerConfig(order=LargestProbability(), count=Threshold(probability=0.5)),
            SamplerConfig(order=LargestProbability(), count=FactorRule(factor=4.0)),
            SamplerConfig(order=LargestProbability(), count=FrechetBound(risk=4.0)),
            SamplerConfig(order=LargestProbability(), count=StableAndSure(probability=0.5, nats=0.1)),
        ),
        policies=(Needed(), Needed(renew_every=4), ConditionFrozen()),
        backends=("onnx-int8",),
        tuning=replace(
            tuning,
            num_prompts=16,
            temperatures=(0.5, 0.8, 1.0),
            guidance=(Guidance(scale=1.0), Guidance(scale=2.0)),
            truncations=(TopP(value=0.9),),
            laws=(DrawnLaw(order=CalibratedConfidence(), ends_last=True),),
        ),
    )
