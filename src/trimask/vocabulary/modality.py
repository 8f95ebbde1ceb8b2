"""The three modalities and the tasks that a sequence can ask for."""

from enum import IntEnum, StrEnum


class Modality(IntEnum):
    """What a token stands for; the order fixes the order of token ranges in the vocabulary."""

    TEXT = 0
    IMAGE = 1
    AUDIO = 2


class Task(StrEnum):
    """What a sequence asks to be generated; each has its own task token [P: task tokens say what to
    generate].

    `JOINT` masks both sides of a pair, `TRIPLE` all three of (caption, image, speech).
    """

    TEXT = "text"
    TEXT_TO_IMAGE = "text_to_image"
    IMAGE_TO_TEXT = "image_to_text"
    TEXT_TO_SPEECH = "text_to_speech"
    SPEECH_TO_TEXT = "speech_to_text"
    JOINT = "joint"
    TRIPLE = "triple"


CONDITION: dict[Task, Modality | None] = {
    Task.TEXT: None,
    Task.TEXT_TO_IMAGE: Modality.TEXT,
    Task.IMAGE_TO_TEXT: Modality.IMAGE,
    Task.TEXT_TO_SPEECH: Modality.TEXT,
    Task.SPEECH_TO_TEXT: Modality.AUDIO,
    Task.JOINT: None,
    Task.TRIPLE: None,
}
"""The modality that stays clean; every other span of the sequence is a target."""


GENERATED: dict[Task, Modality | None] = {
    Task.TEXT: Modality.TEXT,
    Task.TEXT_TO_IMAGE: Modality.IMAGE,
    Task.IMAGE_TO_TEXT: Modality.TEXT,
    Task.TEXT_TO_SPEECH: Modality.AUDIO,
    Task.SPEECH_TO_TEXT: Modality.TEXT,
    Task.JOINT: None,
    Task.TRIPLE: None,
}
"""The modality of a task's targets; None where several are generated together: then their sum is the bound,
and a modality's share in it is none.
"""
