"""Names of the sources of prepared and embedded data."""

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
"""The modalities of each source's examples."""


EMOJI, SPOKEN, SPEECHES = "emoji", "spoken", "speeches"
"""The sources that the embedded data has besides triples."""
EMBEDDED_SOURCES = frozenset({EMOJI, SPOKEN, SPEECHES, TRIPLES})
