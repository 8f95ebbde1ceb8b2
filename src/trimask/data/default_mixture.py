"""The default mixture of prepared data."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from trimask.data.mixture import Component
from trimask.data.source_names import IMAGES, SPEECH, TEXT, TRIPLES

DEFAULT_WEIGHTS: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        (TEXT, "text"): 0.32,
        (IMAGES, "text_to_image"): 0.32,
        (IMAGES, "image_to_text"): 0.01,
        (SPEECH, "text_to_speech"): 0.32,
        (SPEECH, "speech_to_text"): 0.02,
        (TRIPLES, "triple"): 0.025,
    }
)
"""Share of target tokens of each task, relative to the tasks that the data supports [D]: equal for text,
pictures and speech. With `TokenMean` they are also shares of the loss. Captions and transcripts have few
tokens: their small shares amount to one sequence per one to three that generate the other side, with our
tokenizers and at the reference geometry alike. Larger shares would take most of the compute, which scales
with sequences; at smaller ones, their hundredth of the loss would drown in noise.
"""


def default_components(sources: Collection[str]) -> tuple[Component, ...]:
    """Return the default mixture of the given prepared `sources`."""
    return tuple(
        Component(source=source, task=task, weight=weight)
        for (source, task), weight in DEFAULT_WEIGHTS.items()
        if source in sources
    )
