"""`trimask study run sampling` in an hour of one core: fewer tokens, steps, strengths and settings.

trimask study run experiments/2026-11-29-sampling-tuning/study.py:sampling --judges JUDGES --out DIR
"""

from dataclasses import replace

from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import EntropyBound, FactorRule, Threshold
from trimask.sampling.filters import MinP, TopP
from trimask.sampling.grid import Cosine, Uniform
from trimask.sampling.guidance import IntervalGuidance, LinearGuidance
from trimask.sampling.order import CalibratedConfidence, Confidence, LargestProbability, LowestEntropy
from trimask.sampling.recompute import ConditionFrozen, Needed, RevealedFrozen
from trimask.tuning import plans
from trimask.tuning.judged import DrawnLaw, Guidance
from trimask.tuning.study import Sampling


def sampling() -> Sampling:
    """Which sampler is the best at which cost? The five tasks that are judged, on few tokens."""
    study = plans.sampling()
    assert study.tuning is not None
    return replace(
        study,
        tasks=("text", "text_to_image", "image_to_text", "text_to_speech", "speech_to_text"),
        num_sequences=32,
        num_tokens=1500,
        num_levels=33,
        numbers_of_steps=(2, 4, 6, 8, 12, 16, 24, 32),
        grids=(Uniform(), Cosine()),
        limit_orders=(),
        evidence_orders=(LowestEntropy(), LargestProbability()),
        evidence_steps=(8, 16),
        adaptive=(
            SamplerConfig(order=LowestEntropy(), count=EntropyBound(nats=4.0)),
            SamplerConfig(order=LargestProbability(), count=Threshold(probability=0.5)),
            SamplerConfig(order=LargestProbability(), count=FactorRule(factor=4.0)),
        ),
        policies=(Needed(), Needed(renew_every=4), RevealedFrozen(), ConditionFrozen()),
        tuning=replace(
            study.tuning,
            num_prompts=64,
            temperatures=(0.0, 0.4, 0.6, 0.8, 1.0),
            guidance=(
                Guidance(scale=1.0),
                Guidance(scale=1.5),
                Guidance(scale=2.5),
                Guidance(scale=3.0, ramp=LinearGuidance()),
                Guidance(scale=2.0, ramp=IntervalGuidance(stop=0.5)),
            ),
            truncations=(TopP(value=0.9), MinP(value=0.05)),
            laws=(
                DrawnLaw(order=Confidence(), ends_last=True),
                DrawnLaw(order=Confidence(noise_temperature=1.0)),
                DrawnLaw(order=CalibratedConfidence(), ends_last=True),
            ),
        ),
    )
