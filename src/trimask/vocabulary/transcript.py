"""How the words of a recording stand in the text span: the voice's tag, then lower case."""

import re

_TAG = re.compile(r"^(\w+): ?")

DEFAULT_VOICE = "slt"
"""The tag of a recording whose speaker is not stated, and of speech for which no voice is asked."""


def transcript(text: str, voice: str | None = None) -> str:
    """`good morning` of voice `slt` is `slt: good morning`; what is no letter or digit leaves the tag [D]."""
    tag = re.sub(r"\W+", "_", voice).strip("_") if voice else ""
    return f"{tag or DEFAULT_VOICE}: {text.strip()}".lower()


def parse_transcript(text: str) -> tuple[str | None, str]:
    """The voice's tag, None where there is none, and the words."""
    tag = _TAG.match(text)
    return (tag[1], text[tag.end() :].strip()) if tag else (None, text.strip())
