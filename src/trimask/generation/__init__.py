"""From a user's inputs to sequences with masked targets, and from filled sequences to their results."""

from trimask.generation.generate import Generator
from trimask.generation.generated import Generated
from trimask.generation.guides import Guide
from trimask.generation.length import EmptySpanWarning, LengthPolicy, SpanTooShortWarning

__all__ = ["EmptySpanWarning", "Generated", "Generator", "Guide", "LengthPolicy", "SpanTooShortWarning"]
