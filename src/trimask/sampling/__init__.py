"""Reverse diffusion in one loop: order × count × corrector × filters × guidance × recompute."""

from trimask.model.onnx_graph import OnnxPrecision
from trimask.sampling.backends import BACKENDS
from trimask.sampling.compiled_predictor import CompiledPredictor
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
from trimask.sampling.defaults import DEFAULTS
from trimask.sampling.filters import Filter, MinP, Temperature, TopK, TopP
from trimask.sampling.grid import Cosine, Shifted, Tabulated, TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, GuidanceRamp, IntervalGuidance, LinearGuidance
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
from trimask.sampling.recompute import ConditionFrozen, Everything, Needed, Recompute, RevealedFrozen
from trimask.sampling.sampler import Event, sample

__all__ = [
    "BACKENDS",
    "DEFAULTS",
    "AdaptiveCount",
    "Ancestral",
    "CalibratedConfidence",
    "Checkerboard",
    "CoarseFirst",
    "CompiledPredictor",
    "ConditionFrozen",
    "Confidence",
    "ConstantGuidance",
    "Corrector",
    "Cosine",
    "Count",
    "DenoiserPredictor",
    "DrawnOrder",
    "Editing",
    "EntropyBound",
    "Event",
    "Everything",
    "EvidenceOrder",
    "FactorRule",
    "Filter",
    "FirstHitting",
    "FixedOrder",
    "FrechetBound",
    "GuidanceRamp",
    "Halton",
    "InformationProfile",
    "IntervalGuidance",
    "LargestMargin",
    "LargestProbability",
    "LeftToRight",
    "LinearGuidance",
    "LowestEntropy",
    "MinP",
    "Needed",
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
    "Recompute",
    "Remasking",
    "RevealedFrozen",
    "SamplerConfig",
    "SamplerLikelihood",
    "Scheduled",
    "Shifted",
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
