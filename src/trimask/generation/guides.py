"""What guides a result beside its own conditions: a negative prompt, and further conditions with weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from jaxtyping import Int

from trimask.errors import UserError
from trimask.generation.codecs import Codecs, ImageInput, SpeechInput
from trimask.generation.prompts import Seen
from trimask.generation.request import check_example, check_number, describe_value
from trimask.sampling.config import SamplerConfig
from trimask.sampling.guidance import NO_GUIDANCE, Branch, Guidance, check_weight
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence as Document
from trimask.vocabulary.sequence import drop_conditions, exchange_conditions
from trimask.vocabulary.task import Task
from trimask.vocabulary.transcript import DEFAULT_VOICE, is_transcript

_Codes = Mapping[str, Int[np.ndarray, "frames codebooks"]]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Guide:
    """A further condition of a result, which adds scale · (log p under it − log p of the base) to the guided
    log p. A negative scale leads away from it.

    What it gives stands in place of the result's own condition of the same modality; its other conditions
    are the result's own.

    For a scale for each of two conditions (InstructPix2Pix, arXiv 2211.09800), a for the first and b for the
    second: `guidance_scale=b, guides=[Guide(without=(second,), scale=a - b)]`. The model should have been
    trained with such conditions: by default training drops all of them together.

    Attributes:
        prompt, image, speech, codes: as in `Generator.generate_each`, one of each.
        without: the modalities of conditions that are dropped.

    Raises: UserError for a scale out of range, nothing that differs from the result's own conditions, or
        values of wrong types.
    """

    scale: float
    prompt: str | None = None
    image: ImageInput | None = None
    speech: SpeechInput | None = None
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number("the scale of a guide", self.scale)
        check_weight(self.scale)
        if not isinstance(self.codes, Mapping):
            raise UserError(f"codes are {describe_value(self.codes)}: give arrays by modality")
        check_example(self.given)
        if self.scale == 0:
            raise UserError("the scale of a guide is 0, which does nothing: leave the guide out")
        is_list = isinstance(self.without, list | tuple)
        if not is_list or not all(isinstance(each, str) for each in self.without):
            raise UserError(f"without is {describe_value(self.without)}: give names of modalities, ('text',)")
        if not self.given and not self.without:
            raise UserError("a guide has no condition of its own: give a prompt, for example")
        for modality in self.without:
            if modality in self.given:
                raise UserError(f"a guide has {modality} and is without it: leave one out")

    @property
    def given(self) -> dict[str, Any]:
        """Return its own conditions by modality."""
        every = {"text": self.prompt, "image": self.image, "speech": self.speech, **self.codes}
        return {modality: value for modality, value in every.items() if value is not None}


@final
class Guides:
    """Guides of a request, encoded once for all its results."""

    def __init__(
        self,
        codecs: Codecs,
        spans: Sequence[str],
        *,
        negative_prompt: str | None,
        guides: Sequence[Guide],
        voice: str | None = None,
    ):
        """`spans` are those of the results, and `voice` their speaker."""
        spoken_by = (voice or DEFAULT_VOICE) if is_transcript(spans) else None
        self._vocabulary: Vocabulary = codecs.vocabulary
        self._negative: _Codes | None = None
        if negative_prompt is not None:
            self._negative = {"text": codecs.encode("text", negative_prompt, voice=spoken_by)}
        self._further: list[tuple[Guide, _Codes]] = [
            (
                guide,
                {name: codecs.encode(name, value, voice=spoken_by) for name, value in guide.given.items()},
            )
            for guide in guides
        ]

    def guide(self, document: Document) -> Guidance:
        """Return what guides one result: the negative prompt in place of its prompt is the base."""
        if self._negative is None and not self._further:
            return NO_GUIDANCE
        base = None
        if self._negative is not None:
            base = exchange_conditions(document, self._vocabulary, self._negative)
        branches = []
        for guide, codes in self._further:
            other = exchange_conditions(document, self._vocabulary, codes)
            other = drop_conditions(other, self._vocabulary, guide.without)
            branches.append(Branch(document=other, weight=float(guide.scale)))
        return Guidance(base=base, branches=tuple(branches))


def prepare_guides(
    codecs: Codecs,
    seen: Seen | None,
    task: Task,
    spans: Sequence[str],
    config: SamplerConfig,
    *,
    negative_prompt: str | None,
    guides: Sequence[Guide],
    voice: str | None = None,
) -> Callable[[Document], Guidance]:
    """Check and encode what guides the results of a request; return a function that gives it for each one.

    Args:
        seen: respells prompts, and warns of unseen ones; None leaves them as they are.
        spans: of the results.
        voice: their speaker.

    Raises:
        UserError: as `check_guides`, or a condition that cannot be read.
    """
    check_guides(task, config, negative_prompt=negative_prompt, guides=guides)
    if seen is not None:
        negative_prompt = _respell(seen, task, negative_prompt)
        guides = [replace(guide, prompt=_respell(seen, task, guide.prompt)) for guide in guides]
    return Guides(codecs, spans, negative_prompt=negative_prompt, guides=guides, voice=voice).guide


def check_guides(
    task: Task, config: SamplerConfig, *, negative_prompt: str | None, guides: Sequence[Guide]
) -> None:
    """Check what guides the results of a task.

    Raises:
        UserError: something that is no guide, that the task has no condition for, or that does nothing.
    """
    if not isinstance(guides, list | tuple) or not all(isinstance(each, Guide) for each in guides):
        raise UserError(f"guides is {describe_value(guides)}: give a list of trimask.generation.Guide")
    for guide in guides:
        for modality in (*guide.given, *guide.without):
            if modality not in task.condition:
                name = "prompt" if modality == "text" else modality
                has = " and ".join(task.condition) or "none"
                raise UserError(
                    f"a guide changes the condition {name}, and task {task.name} has no such condition "
                    f"(it has {has}): leave the guide out"
                )
        if negative_prompt is None and set(guide.without) == set(task.condition):
            raise UserError(
                "a guide without any condition is the base of guidance itself, and does nothing: leave it out"
            )
    if negative_prompt is None:
        return
    if "text" not in task.condition:
        raise UserError(
            f"negative_prompt has nothing to act on: task {task.name} has no text condition; leave it out"
        )
    if not negative_prompt.strip():
        raise UserError(f"negative_prompt {negative_prompt!r} is empty: give some text, or leave it out")
    if not config.is_guided and not guides:
        raise UserError(
            f"negative_prompt does nothing at guidance_scale 1, which task {task.name} has: give a larger "
            "guidance_scale"
        )


def _respell(seen: Seen, task: Task, prompt: str | None) -> str | None:
    """Respell a prompt, and warn if it is unlike the data."""
    if prompt is None:
        return None
    spelled = seen.prompt(task, prompt)
    seen.warn_if_unseen(task, spelled, stacklevel=5)
    return spelled
