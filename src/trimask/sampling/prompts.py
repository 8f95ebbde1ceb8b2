"""What a model has seen in training, as far as prompts need it: spelling, voices, tasks.

A model knows a caption as its data spelled it. So a prompt is spelled as the data were, word by word, by what
was measured on them and nothing else.
"""

import re
import unicodedata
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

from trimask.errors import UserError
from trimask.sampling.request import shown
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import DEFAULT_VOICE, is_transcript, voice_tag

_ARTICLES = frozenset({"a", "an", "the"})
_CLOSING = ".!?…,;。！？"
_SHOWN = 5
# Scripts that set no spaces between words: each character counts as one.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class UnseenPromptWarning(UserWarning):
    """A prompt is far from what the model has seen in training."""


class UntrainedTaskWarning(UserWarning):
    """The model was not trained on the task, but on others with its modalities."""


@final
@dataclass(frozen=True, kw_only=True)
class SeenTexts:
    """How the captions, or the transcripts, of a run's data are spelled.

    Attributes:
        words: as they stand between spaces, the commonest first; of one that is spelled in several ways the
            first is the usual one.
        is_whole: whether these are all; else the commonest.
        is_lower: whether most texts have no capitals: then words that are not known lose theirs.
        closing: the mark that nearly all texts end with, or nothing.
        has_articles: whether texts often open with an article.
        openings: where they do not: those that some do open with, and the word after it, lower-case.
        longest: words of the longest text.
    """

    words: tuple[str, ...]
    is_whole: bool
    is_lower: bool
    closing: str
    has_articles: bool
    openings: tuple[str, ...]
    longest: int

    def spelled(self, text: str, *, drops_article: bool = True) -> str:
        """`text` as the data would have it: its words in their known spelling, with the usual closing mark,
        and without an article that no text opens with.
        """
        words = text.split()
        if drops_article and not self.has_articles and opening(text) not in (None, *self.openings):
            words = words[1:]
        last = len(words) - 1
        return " ".join(self._word(word, is_last=place == last) for place, word in enumerate(words))

    def unseen(self, text: str) -> list[str]:
        """Those words of `text` that no text of the data has, however they are spelled."""
        return [word for word in dict.fromkeys(bare_words(text)) if word not in self._bare]

    def unseen_characters(self, text: str) -> list[str]:
        """Those characters of `text`, in lower case, that no text of the data has."""
        return [c for c in dict.fromkeys("".join(text.lower().split())) if c not in self._characters]

    def _word(self, word: str, *, is_last: bool) -> str:
        if not is_last:
            return self._known(word) or self._unknown(word)
        body = word.rstrip(_CLOSING) or word
        if word in self._exact and word.endswith(self.closing):
            return word
        # A mark may belong to the word ("Mrs.").
        known = self._known(body + self.closing) or self._known(body) or self._known(word)
        found = known or self._unknown(body)
        return found if found.endswith(self.closing) else found + self.closing

    def _known(self, word: str) -> str | None:
        return word if word in self._exact else self._usual.get(_key(word))

    def _unknown(self, word: str) -> str:
        composed = unicodedata.normalize("NFC", word)
        return composed.lower() if self.is_lower else composed

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.words)

    @cached_property
    def _usual(self) -> dict[str, str]:
        usual: dict[str, str] = {}
        for word in self.words:
            usual.setdefault(_key(word), word)
        return usual

    @cached_property
    def _bare(self) -> frozenset[str]:
        return frozenset(bare for word in self.words for bare in bare_words(word))

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset("".join(self.words).lower())


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a model was trained on, as far as prompts need it; what is not known is left out.

    Attributes:
        tasks: their names; empty where they are not known.
        voices: tag of each voice and its recordings, the commonest first; empty where they are not known.
    """

    tasks: tuple[str, ...] = ()
    captions: SeenTexts | None = None
    transcripts: SeenTexts | None = None
    voices: dict[str, int] = field(default_factory=dict)

    def prompt(self, task: Task, prompt: str) -> str:
        """`prompt` as the data of the task spell it; the beginning of a text is left as it is."""
        texts = self._texts(task)
        if texts is None or not prompt.strip():  # the latter is told by who reads it
            return prompt
        if texts is self.transcripts:
            return texts.spelled(prompt.lower(), drops_article=False)
        return texts.spelled(prompt)

    def _texts(self, task: Task) -> SeenTexts | None:
        """What the condition of a task was among the data."""
        if "text" not in task.condition:
            return None
        return self.transcripts if is_transcript(task.spans[0]) else self.captions

    def voice(self, name: str | None) -> str:
        """The tag of the voice `name`; of none, the commonest.

        Raises:
            UserError: no recording is of this voice.
        """
        if name is None:
            return next(iter(self.voices), DEFAULT_VOICE)
        if not self.voices or name in self.voices:
            return name
        tag = voice_tag(name)
        if tag not in self.voices:
            listed = [f"{known} ({count:,})" for known, count in self.voices.items() if count]
            listed = (listed or list(self.voices))[:40]
            more = f" and {len(self.voices) - 40} more" if len(self.voices) > 40 else ""
            raise UserError(
                f"the model knows no voice {shown(name)}: choose one of {', '.join(listed)}{more} "
                "(recordings in training)"
            )
        return tag

    def check_task(
        self, task: Task, spans: Collection[str], known: Collection[Task], *, stacklevel: int = 2
    ) -> None:
        """Warn of a task that the model was not trained on.

        Args:
            spans: the modalities that are asked for.
            known: the rows of the model's tasks.

        Raises:
            UserError: it was never trained to give one of the task's modalities, or has never met its
                condition.
        """
        if not self.tasks or task.name in self.tasks:
            return
        trained = f"it was trained on {', '.join(self.tasks)}"
        rows = [row for row in known if row.name in self.tasks]
        gives = {modality for row in rows for modality in row.targets}
        met = gives.union(*(row.condition for row in rows))
        if not set(task.targets_of(list(spans))) <= gives or not set(task.condition) <= met:
            raise UserError(f"the model was not trained on {task.name}: {trained}")
        message = f"the model was not trained on {task.name}, and what comes may be noise: {trained}"
        warnings.warn(message, UntrainedTaskWarning, stacklevel=stacklevel + 1)

    def warn_of_unseen(self, task: Task, prompt: str, *, stacklevel: int = 2) -> None:
        """Warn of a prompt that is far from what the model has seen: words that no caption has, characters
        that no transcript has, or more words than any.
        """
        texts = self._texts(task)
        if texts is None:
            return
        unseen = texts.unseen_characters(prompt) if texts is self.transcripts else texts.unseen(prompt)
        length = len(bare_words(prompt))
        if unseen:
            listed = ", ".join(map(repr, unseen[:_SHOWN])) + (" …" if len(unseen) > _SHOWN else "")
            among = "its data" if texts.is_whole else f"the {len(texts.words):,} commonest words of its data"
            what = f"{listed} {'is' if len(unseen) == 1 else 'are'} not in {among}"
        elif length > texts.longest:
            what = f"it has {length} words, and the longest text of its data has {texts.longest}"
        else:
            return
        shown = prompt if len(prompt) <= 60 else f"{prompt[:59]}…"
        message = f"the prompt {shown!r} is far from what the model has seen: {what}; expect a guess"
        warnings.warn(message, UnseenPromptWarning, stacklevel=stacklevel + 1)


def opening(text: str) -> str | None:
    """The article that `text` opens with and the word after it, lower-case; None where there are not both."""
    words = text.lower().split(maxsplit=2)[:2]
    return " ".join(words).rstrip(_CLOSING) if len(words) == 2 and words[0] in _ARTICLES else None


def closing(text: str) -> str:
    """The mark that `text` ends with, or nothing."""
    return text[-1] if text and text[-1] in _CLOSING else ""


def bare_words(text: str) -> list[str]:
    """The words of `text` in one spelling, without the marks around them, to tell whether one is known."""
    words = []
    for word in _UNSPACED.sub(r" \g<0> ", _key(text)).split():
        first = next((place for place, c in enumerate(word) if c.isalnum()), None)
        if first is not None:
            last = next(place for place in range(len(word), 0, -1) if _is_word(word[place - 1]))
            words.append(word[first:last])
    return words


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _key(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold()
