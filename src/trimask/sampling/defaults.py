"""Default sampler settings of each task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import final

from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import Ancestral
from trimask.sampling.filters import Temperature, TopP
from trimask.sampling.grid import Cosine
from trimask.sampling.order import Confidence

_TEXT = SamplerConfig(num_steps=64, count=Ancestral(), filters=(Temperature(value=0.8), TopP(value=0.95)))
_IMAGE = SamplerConfig(
    num_steps=32,
    grid=Cosine(),
    count=Ancestral(),
    filters=(Temperature(value=0.8),),
    guidance_scale=1.5,
)
_SPEECH = SamplerConfig(
    num_steps=32,
    grid=Cosine(),
    order=Confidence(noise_temperature=0.5),
    filters=(Temperature(value=0.8),),
    guidance_scale=2.0,
)
# In pure confidence order the end tokens come first and leave little room for the words.
_CAPTION = SamplerConfig(num_steps=24, order=Confidence(), block_length=4, filters=(Temperature(value=0.0),))
# Not in order of confidence: where nothing is given, white cells, silence and end tokens come first, and
# blank pictures and silent clips follow from them (experiments/2026-11-30-joint-defaults).
OTHER = replace(_IMAGE, guidance_scale=1.0)
"""The settings of a task without a default of its own."""

DEFAULTS: Mapping[str, SamplerConfig] = MappingProxyType(
    {
        "text": _TEXT,
        "text_to_image": _IMAGE,
        "image_to_text": _CAPTION,
        "text_to_speech": _SPEECH,
        "speech_to_text": replace(_CAPTION, num_steps=64),
        "joint": OTHER,
        "triple": OTHER,
    }
)
"""By task name [D: compared on the shipped model, experiments/2026-11-22-sampling-defaults; the intervals
overlap]. Text is revealed in random order: in confidence order it repeats itself."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Samplers:
    """Sampler settings by task name, as in a run's configuration."""

    sampler: dict[str, SamplerConfig]
