"""Tasks: what a sequence generates. Tasks are rows of an extensible table."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import final

from trimask.errors import UserError

MODALITIES = ("text", "image", "speech")
"""The modalities with a tokenizer, by name; a run may have others (`RunConfig.spaces`)."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a sequence generates; each task has its own task token [P: task tokens say what to generate].

    Attributes:
        name: in configurations, in the vocabulary and on the command line.
        spans: the modalities of its sequences, in order; several alternatives if examples of several kinds
            fit, as for `joint`.
        condition: the modalities that stay clean; every other span is a target.

    Raises: UserError for a name that is not an identifier, spans that are empty or repeat a modality, or a
        condition that leaves no target.
    """

    name: str
    spans: tuple[tuple[str, ...], ...]
    condition: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UserError(f"task {self.name!r}: give a name of letters, digits and underscores")
        if isinstance(self.spans, str) or any(isinstance(spans, str) for spans in self.spans):
            raise UserError(
                f"task {self.name}: spans {self.spans!r} must be a tuple of alternatives, each a tuple of "
                'modalities: write spans=(("text", "image"),), for example'
            )
        if isinstance(self.condition, str):
            raise UserError(
                f"task {self.name}: condition {self.condition!r} must be a tuple of modalities: write "
                f"condition=({self.condition!r},)"
            )
        if not self.spans or not all(self.spans):
            raise UserError(f"task {self.name}: spans {self.spans} must name at least one modality each")
        for spans in self.spans:
            if len(set(spans)) < len(spans):
                raise UserError(f"task {self.name}: spans {spans} name a modality twice")
            if not set(self.condition) < set(spans):
                raise UserError(
                    f"task {self.name}: condition {self.condition} must be some of the spans {spans}, and "
                    "leave at least one to generate"
                )

    def spans_of(self, present: Collection[str]) -> tuple[str, ...]:
        """Return the ordered spans of an example with the modalities `present`.

        Raises:
            UserError: the task has no such sequence.
        """
        for spans in self.spans:
            if set(spans) == set(present):
                return spans
        wanted = " or ".join("+".join(spans) for spans in self.spans)
        raise UserError(f"task {self.name} needs spans {wanted}, not {'+'.join(present) or 'nothing'}")

    def targets_of(self, present: Collection[str]) -> tuple[str, ...]:
        """Return the modalities of `present` that the task generates, in order."""
        return tuple(modality for modality in present if modality not in self.condition)

    @property
    def targets(self) -> frozenset[str]:
        """All modalities that it can generate."""
        return frozenset(self.targets_of([modality for spans in self.spans for modality in spans]))

    @property
    def target(self) -> str | None:
        """The modality that it generates; None if several are generated together: then only their sum is a
        bound.
        """
        return next(iter(self.targets)) if len(self.targets) == 1 else None

    @property
    def is_alone(self) -> bool:
        """Whether its sequences have a single span, like text passages."""
        return all(len(spans) == 1 for spans in self.spans)


TASKS = (
    Task(name="text", spans=(("text",),)),
    Task(name="text_to_image", spans=(("text", "image"),), condition=("text",)),
    Task(name="image_to_text", spans=(("image", "text"),), condition=("image",)),
    Task(name="text_to_speech", spans=(("text", "speech"),), condition=("text",)),
    Task(name="speech_to_text", spans=(("speech", "text"),), condition=("speech",)),
    Task(name="joint", spans=(("text", "image"), ("text", "speech"))),
    Task(name="triple", spans=(("text", "image", "speech"),)),
)
"""The tasks of our recipes: `joint` masks both sides of a pair, `triple` all of (caption, image, speech)."""
