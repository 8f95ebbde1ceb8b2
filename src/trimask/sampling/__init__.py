"""Reverse diffusion: one short loop over grid × order × filters × guidance, and `generate` for every task."""

from trimask.sampling.filters import Filter, Temperature, TopK, TopP
from trimask.sampling.generate import DEFAULTS, Generated, Generator
from trimask.sampling.grid import Cosine, Shifted, TimeGrid, Uniform
from trimask.sampling.guidance import ConstantGuidance, Guided, LinearGuidance
from trimask.sampling.length import EmptySpanWarning, LengthPolicy, SpanTooShortWarning
from trimask.sampling.order import Ancestral, Confidence, LeftToRightBlocks, Order
from trimask.sampling.predictor import DenoiserPredictor, Predictor
from trimask.sampling.sampler import SamplerConfig, sample

__all__ = [
    "DEFAULTS",
    "Ancestral",
    "Confidence",
    "ConstantGuidance",
    "Cosine",
    "DenoiserPredictor",
    "EmptySpanWarning",
    "Filter",
    "Generated",
    "Generator",
    "Guided",
    "LeftToRightBlocks",
    "LengthPolicy",
    "LinearGuidance",
    "Order",
    "Predictor",
    "SamplerConfig",
    "Shifted",
    "SpanTooShortWarning",
    "Temperature",
    "TimeGrid",
    "TopK",
    "TopP",
    "Uniform",
    "sample",
]
