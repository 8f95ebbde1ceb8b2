"""Reverse diffusion in one loop: order × count × corrector × filters × guidance; and `generate` for every
task.
"""

from trimask.model.onnx_graph import OnnxPrecision
from trimask.sampling.backends import BACKENDS
from trimask.sampling.config import SamplerConfig
from trimask.sampling.corrector import (
    Corrector,
    Editing,
    PathPlanning,
    Remasking,
    ReMDMCap,
    ReMDMConfidence,
    ReMDMLoop,
    ReMDMRescale,
    TokenEditing,
)
from trimask.sampling.count import (
    AdaptiveCount,
    Ancestral,
    Count,
    EntropyBound,
    FactorRule,
    FirstHitting,
    FrechetBound,
    PlannedCount,
    Scheduled,
    StableAndSure,
    Threshold,
)
from trimask.sampling.filters import Filter, MinP, Temperature, TopK, TopP
from trimask.sampling.generate import DEFAULTS, Generated, Generator
from trimask.sampling.grid import Cosine, Shifted, Tabulated, TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, IntervalGuidance, LinearGuidance
from trimask.sampling.length import EmptySpanWarning, LengthPolicy, SpanTooShortWarning
from trimask.sampling.likelihood import SamplerLikelihood, measure_sampler_likelihood
from trimask.sampling.onnx_predictor import OnnxPredictor
from trimask.sampling.order import (
    CalibratedConfidence,
    Checkerboard,
    CoarseFirst,
    Confidence,
    DrawnOrder,
    EvidenceOrder,
    FixedOrder,
    Halton,
    LargestMargin,
    LargestProbability,
    LeftToRight,
    LowestEntropy,
    Order,
    Random,
)
from trimask.sampling.predictor import DenoiserPredictor, Predictor
from trimask.sampling.profile import InformationProfile, measure_profile
from trimask.sampling.sampler import Event, sample

__all__ = [
    "BACKENDS",
    "DEFAULTS",
    "AdaptiveCount",
    "Ancestral",
    "CalibratedConfidence",
    "Checkerboard",
    "CoarseFirst",
    "Confidence",
    "ConstantGuidance",
    "Corrector",
    "Cosine",
    "Count",
    "DenoiserPredictor",
    "DrawnOrder",
    "Editing",
    "EmptySpanWarning",
    "EntropyBound",
    "Event",
    "EvidenceOrder",
    "FactorRule",
    "Filter",
    "FirstHitting",
    "FixedOrder",
    "FrechetBound",
    "Generated",
    "Generator",
    "GuidanceRamp",
    "Halton",
    "InformationProfile",
    "IntervalGuidance",
    "LargestMargin",
    "LargestProbability",
    "LeftToRight",
    "LengthPolicy",
    "LinearGuidance",
    "LowestEntropy",
    "MinP",
    "OnnxPrecision",
    "OnnxPredictor",
    "Order",
    "PathPlanning",
    "PlannedCount",
    "Predictor",
    "Random",
    "ReMDMCap",
    "ReMDMConfidence",
    "ReMDMLoop",
    "ReMDMRescale",
    "Remasking",
    "SamplerConfig",
    "SamplerLikelihood",
    "Scheduled",
    "Shifted",
    "SpanTooShortWarning",
    "StableAndSure",
    "Tabulated",
    "Temperature",
    "Threshold",
    "TimeGrid",
    "TokenEditing",
    "TopK",
    "TopP",
    "Uniform",
    "measure_profile",
    "measure_sampler_likelihood",
    "sample",
]
