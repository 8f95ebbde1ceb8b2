"""The mixture of prepared data whose recipe names none."""

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
"""Share of target tokens of each task on prepared data, relative to those that the data has [D]: as many of
text as of pictures and of speech. With `TokenMean` they are shares of the loss too. Captions and transcripts
have few tokens beside what they describe: their small shares are one sequence for one to three that generate
the other side, over our tokenizers and at the reference geometry alike. More would take most of the compute,
which goes by sequences; less, and a hundredth of the loss would be lost in the noise of the rest.
"""


def default_components(sources: Collection[str]) -> tuple[Component, ...]:
    """The default mixture of those of the prepared `sources` that there are."""
    return tuple(
        Component(source=source, task=task, weight=weight)
        for (source, task), weight in DEFAULT_WEIGHTS.items()
        if source in sources
    )
