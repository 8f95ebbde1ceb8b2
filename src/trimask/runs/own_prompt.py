"""Suggest a first try of a finished run: a trained task and a prompt from its data."""

from trimask.runs.kinds import kind_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.task import Task

_ORDER = (
    "text_to_image",
    "text_to_speech",
    "text",
    "triple",
    "joint",
    "image_to_text",
    "speech_to_text",
)
_LENGTH = 20  # characters that are easily typed


def suggest_prompt(config: RunConfig, tokenizers: Tokenizers) -> tuple[Task, str | None]:
    """Return a trained task, preferably one that needs no file, and, if it needs a prompt, the training text
    among the first few that is easiest to type.
    """
    trained = {component.task for component in config.mixture.components}
    tasks = [task for task in config.tasks if task.name in trained]
    task = min(tasks, key=lambda task: (not {"text"} >= set(task.condition), _rank(task.name)))
    if "text" not in task.condition:
        return task, None
    texts = kind_of(config.data).texts(config, task, tokenizers)
    return task, min(texts, key=_trouble, default=None)


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _trouble(text: str) -> tuple[bool, int, str]:
    return not text.replace(" ", "").isalpha(), abs(len(text) - _LENGTH), text
