"""Names of the sources that data of ours have."""

from collections.abc import Mapping
from types import MappingProxyType

TEXT, IMAGES, SPEECH, TRIPLES = "text", "images", "speech", "triples"
"""The sources that prepared data can have; a triple also counts as a captioned picture and as speech."""


MODALITIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        TEXT: frozenset({"text"}),
        IMAGES: frozenset({"text", "image"}),
        SPEECH: frozenset({"text", "speech"}),
        TRIPLES: frozenset({"text", "image", "speech"}),
    }
)
"""What the examples of each are made of."""


EMOJI, SPOKEN, SPEECHES = "emoji", "spoken", "speeches"
"""The sources of the embedded data; they have triples too."""
