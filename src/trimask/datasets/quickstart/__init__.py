"""The embedded quickstart data: captioned emoji, spoken captions and sentences, and presidents' addresses."""

from trimask.datasets.quickstart.reader import (
    CaptionedImage,
    Passage,
    Triple,
    Utterance,
    captions,
    load_images,
    load_speech,
    load_text,
    triples,
)

__all__ = [
    "CaptionedImage",
    "Passage",
    "Triple",
    "Utterance",
    "captions",
    "load_images",
    "load_speech",
    "load_text",
    "triples",
]
