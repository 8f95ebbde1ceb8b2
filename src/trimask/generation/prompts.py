"""Statistics of the training data that prompts need: spelling, voices, tasks.

A model knows captions only as its data spelled them, so prompts are respelled word by word, from statistics
of the data alone.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

from trimask.errors import UserError
from trimask.generation.doubts import doubt
from trimask.generation.request import describe_value
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import DEFAULT_VOICE, is_transcript, voice_tag

_ARTICLES = frozenset({"a", "an", "the"})
_CLOSING = ".!?…,;。！？"
_SHOWN = 5
# Scripts without spaces between words: each character counts as a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class UnseenPromptWarning(UserWarning):
    """A prompt is far from the training data."""


class UntrainedTaskWarning(UserWarning):
    """The model was trained on other tasks with the same modalities, but not on this one."""


@final
@dataclass(frozen=True, kw_only=True)
class SeenTexts:
    """The spelling of the captions or transcripts of a run's data.

    Attributes:
        words: as delimited by spaces, most common first; the first of several spellings of a word is the
            usual one.
        is_whole: whether `words` are all words, or only the most common.
        is_lower: whether most texts have no capitals; unknown words are then lower-cased.
        closing: the mark that nearly all texts end with, or "".
        has_articles: whether texts often begin with an article.
        openings: if they do not: the articles that some texts begin with, each with the next word, in lower
            case.
        longest: number of words of the longest text.
        examples: a few of the shorter texts, whole, for a page to suggest: the words of a caption are seldom
            captions themselves.
    """

    words: tuple[str, ...]
    is_whole: bool
    is_lower: bool
    closing: str
    has_articles: bool
    openings: tuple[str, ...]
    longest: int
    examples: tuple[str, ...] = ()

    def respell(self, text: str, *, drops_article: bool = True) -> str:
        """Respell `text` like the data: known spellings, the usual closing mark, and no article that no text
        begins with.
        """
        words = text.split()
        if drops_article and not self.has_articles and find_opening(text) not in (None, *self.openings):
            words = words[1:]
        last = len(words) - 1
        return " ".join(self._word(word, is_last=place == last) for place, word in enumerate(words))

    def find_unseen_words(self, text: str) -> list[str]:
        """Return the words of `text` that the data has in no spelling."""
        return [word for word in dict.fromkeys(normalize_prompt(text)) if word not in self._bare]

    def find_unseen_characters(self, text: str) -> list[str]:
        """Return the characters of `text`, in lower case, that the data lacks."""
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
        return frozenset(bare for word in self.words for bare in normalize_prompt(word))

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset("".join(self.words).lower())


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """What prompts need to know about a model's training data; unknown parts are left out.

    Attributes:
        tasks: names; empty if unknown.
        captions: of the texts beside other modalities, except transcripts.
        voices: number of recordings by voice tag, most common first; empty if unknown.
    """

    tasks: tuple[str, ...] = ()
    captions: SeenTexts | None = None
    transcripts: SeenTexts | None = None
    voices: dict[str, int] = field(default_factory=dict)

    def prompt(self, task: Task, prompt: str) -> str:
        """Respell `prompt` like the task's data; leave the beginning of a text unchanged."""
        texts = self._texts(task)
        if texts is None or not prompt.strip():  # an empty prompt is reported by the codecs
            return prompt
        if texts is self.transcripts:
            return texts.respell(prompt.lower(), drops_article=False)
        return texts.respell(prompt)

    def _texts(self, task: Task) -> SeenTexts | None:
        """Return the statistics of the texts that condition `task`."""
        if "text" not in task.condition:
            return None
        return self.transcripts if is_transcript(task.spans[0]) else self.captions

    def voice(self, name: str | None) -> str:
        """Return the tag of the voice `name`, or of the most common voice.

        Raises:
            UserError: the data has no recording of this voice.
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
                f"the model knows no voice {describe_value(name)}: choose one of {', '.join(listed)}{more} "
                "(recordings in training)"
            )
        return tag

    def check_task(
        self, task: Task, spans: Collection[str], known: Collection[Task], *, stacklevel: int = 2
    ) -> None:
        """Warn if the model was not trained on `task`.

        Args:
            spans: the requested modalities.
            known: the model's tasks.

        Raises:
            UserError: the model was never trained to generate one of the targets, or has never seen the
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
        message = f"the model was not trained on {task.name}, and the result may be noise: {trained}"
        doubt(message, UntrainedTaskWarning, stacklevel=stacklevel + 1)

    def warn_if_unseen(self, task: Task, prompt: str, *, stacklevel: int = 2) -> None:
        """Warn of a prompt far from the training data: unknown words (captions), unknown characters
        (transcripts), or more words than any text.
        """
        texts = self._texts(task)
        if texts is None:
            return
        unseen = (
            texts.find_unseen_characters(prompt)
            if texts is self.transcripts
            else texts.find_unseen_words(prompt)
        )
        length = len(normalize_prompt(prompt))
        if unseen:
            listed = ", ".join(map(repr, unseen[:_SHOWN])) + (" …" if len(unseen) > _SHOWN else "")
            among = "its data" if texts.is_whole else f"the {len(texts.words):,} commonest words of its data"
            what = f"{listed} {'is' if len(unseen) == 1 else 'are'} not in {among}"
        elif length > texts.longest:
            what = f"it has {length} words, and the longest text of its data has {texts.longest}"
        else:
            return
        excerpt = prompt if len(prompt) <= 60 else f"{prompt[:59]}…"
        message = f"the prompt {excerpt!r} is far from the training data: {what}; the result may be poor"
        doubt(message, UnseenPromptWarning, stacklevel=stacklevel + 1)


def find_opening(text: str) -> str | None:
    """Return the article that `text` begins with and the next word, in lower case; None unless both exist."""
    words = text.lower().split(maxsplit=2)[:2]
    return " ".join(words).rstrip(_CLOSING) if len(words) == 2 and words[0] in _ARTICLES else None


def find_closing(text: str) -> str:
    """Return the mark that `text` ends with, or ""."""
    return text[-1] if text and text[-1] in _CLOSING else ""


def normalize_prompt(text: str) -> list[str]:
    """Return the words of `text` in a normalized spelling, without surrounding marks, to look them up.

    A word without letters and digits counts if it has a symbol, such as an emoji; other marks are dropped.
    """
    words = []
    for word in _UNSPACED.sub(r" \g<0> ", _key(text)).split():
        first = next((place for place, c in enumerate(word) if c.isalnum()), None)
        if first is not None:
            last = next(place for place in range(len(word), 0, -1) if _is_word(word[place - 1]))
            words.append(word[first:last])
        elif any(unicodedata.category(c).startswith("S") for c in word):
            words.append(word)
    return words


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _key(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold()
