"""What to try a finished run with: a task that it was trained on, and a prompt from its own data."""

from collections.abc import Iterator

from trimask.data.prepare.manifest import load_split
from trimask.data.selection import PreparedData, QuickstartData
from trimask.recipes.tokens import pictures, readings, select_speech
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.transcript import parse_transcript

_ORDER = (
    "text_to_image",
    "text_to_speech",
    "text",
    "triple",
    "joint",
    "image_to_text",
    "speech_to_text",
)
_PROMPTED = ("text_to_image", "text_to_speech")
_SAMPLED = 100  # texts of each source
_LENGTH = 20  # characters that are easily typed


def first_try(config: RunConfig, tokenizers: Tokenizers) -> tuple[str, str | None]:
    """The task of `config` that shows most, and a text of its training data as the prompt of a task that
    needs one. Of the first texts that is the one that is easiest to type.
    """
    trained = {component.task for component in config.mixture.components}
    task = next(task for task in _ORDER if task in trained)
    if task not in _PROMPTED:
        return task, None
    return task, min(_texts(config, task, tokenizers), key=_trouble, default=None)


def _trouble(text: str) -> tuple[bool, int, str]:
    return not text.replace(" ", "").isalpha(), abs(len(text) - _LENGTH), text


def _texts(config: RunConfig, task: str, tokenizers: Tokenizers) -> Iterator[str]:
    """Captions or transcripts of the training split, each on one line."""
    data = config.data
    if isinstance(data, QuickstartData):
        images = pictures("train", data)
        if task == "text_to_image":
            texts = [row.caption for row in images]
        else:
            spoken = select_speech(readings("train", data), data, {row.base for row in images})
            texts = [row.text.lower() for row in spoken]
        yield from texts[:_SAMPLED]
    elif isinstance(data, PreparedData):
        sources = load_split(data.folders, "train")
        named = {component.source for component in config.mixture.components if component.task == task}
        for name in sorted(named & sources.keys()):
            source = sources[name]
            for index in range(min(len(source), _SAMPLED)):
                text = tokenizers.text.decode(source.example(index)["text"][:, 0].tolist())
                if task == "text_to_speech":
                    text = parse_transcript(text)[1]
                if words := text.split():
                    yield " ".join(words)
