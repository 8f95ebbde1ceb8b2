"""What is decided about the split of one example, as one byte."""

from dataclasses import dataclass
from typing import final

from trimask.media.rejection import Reason, Rejected

STATED = (None, "train", "composition", "validation", "test")
"""Numbers of splits, by which what is held out goes before what is not; 0: the source says nothing."""
CAUSES = ("text", "picture", "recording", "group")
"""What of an example can stand in a split that the source holds out."""
KEPT, HELD, REPEATED = 0, 1, 2
"""What becomes of it. A byte is split + 8 × this + 32 × cause."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The split of an example, or which split holds it out and why, or that it was there before."""

    split: str
    status: int = KEPT
    cause: str = CAUSES[0]

    @classmethod
    def unpack(cls, code: int) -> "Decision":
        split = STATED[code & 7]
        assert split is not None
        return cls(split=split, status=code >> 3 & 3, cause=CAUSES[code >> 5])

    def check(self) -> None:
        """Raises Rejected if the example is set aside."""
        if self.status == HELD:
            raise Rejected(Reason.HELD_OUT, f"its {self.cause} stands in the source's own {self.split} split")
        if self.status == REPEATED:
            raise Rejected(Reason.REPEATED, "nothing new: the same file was there before")
