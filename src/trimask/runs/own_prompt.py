"""Suggest a first try of a finished run: a trained task and a prompt from its data."""

from collections.abc import Iterator

from trimask.data.selection import PreparedData, QuickstartData
from trimask.prepare.manifest import load_split
from trimask.runs.embedded import pictures, readings, select_speech
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import is_transcript, parse_transcript

_ORDER = (
    "text_to_image",
    "text_to_speech",
    "text",
    "triple",
    "joint",
    "image_to_text",
    "speech_to_text",
)
_SAMPLED = 100  # texts of each source
_LENGTH = 20  # characters that are easily typed


def suggest_prompt(config: RunConfig, tokenizers: Tokenizers) -> tuple[Task, str | None]:
    """Return the most telling task of `config` and, if it needs a prompt, the training text among the first
    few that is easiest to type.
    """
    trained = {component.task for component in config.mixture.components}
    known = [*_ORDER, *(task.name for task in config.tasks if task.name not in _ORDER)]
    name = next(name for name in known if name in trained)
    task = next(task for task in config.tasks if task.name == name)
    if "text" not in task.condition:
        return task, None
    return task, min(_texts(config, task, tokenizers), key=_trouble, default=None)


def _trouble(text: str) -> tuple[bool, int, str]:
    return not text.replace(" ", "").isalpha(), abs(len(text) - _LENGTH), text


def _texts(config: RunConfig, task: Task, tokenizers: Tokenizers) -> Iterator[str]:
    """Yield captions or transcripts of the training split, each on one line."""
    data = config.data
    if isinstance(data, QuickstartData):
        images = pictures("train", data)
        if not is_transcript(task.spans[0]):
            texts = [row.caption for row in images]
        else:
            spoken = select_speech(readings("train", data), data, {row.base for row in images})
            texts = [row.text.lower() for row in spoken]
        yield from texts[:_SAMPLED]
    elif isinstance(data, PreparedData):
        sources = load_split(data.folders, "train")
        named = {component.source for component in config.mixture.components if component.task == task.name}
        for name in sorted(named & sources.keys()):
            source = sources[name]
            for index in range(min(len(source), _SAMPLED)):
                text = tokenizers.text.decode(source.example(index)["text"][:, 0].tolist())
                if is_transcript(task.spans[0]):
                    text = parse_transcript(text)[1]
                if words := text.split():
                    yield " ".join(words)
