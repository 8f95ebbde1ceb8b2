"""The split decision for one example, packed into one byte."""

from dataclasses import dataclass
from typing import final

from trimask.media.rejection import Reason, Rejected

STATED = (None, "train", "composition", "validation", "test")
"""Split names by number, in order of precedence: a held-out split has a higher number than `train`.
0 means that the source names no split."""
CAUSES = ("text", "picture", "recording", "group")
"""The part of an example that also occurs in a split that the source holds out."""
KEPT, HELD, REPEATED = 0, 1, 2
"""The status of an example. The packed byte is split + 8 × status + 32 × cause."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The split of an example and its status.

    Attributes:
        split: of a kept example, its split; of a held-out one, the split that shares its content.
        status: KEPT, HELD (its content is in a held-out split) or REPEATED (an exact duplicate).
        cause: one of CAUSES; meaningful for HELD only.
    """

    split: str
    status: int = KEPT
    cause: str = CAUSES[0]

    @classmethod
    def unpack(cls, code: int) -> "Decision":
        split = STATED[code & 7]
        assert split is not None
        return cls(split=split, status=code >> 3 & 3, cause=CAUSES[code >> 5])

    def check(self) -> None:
        """Raise Rejected if the example is set aside."""
        if self.status == HELD:
            raise Rejected(Reason.HELD_OUT, f"its {self.cause} is also in the source's {self.split} split")
        if self.status == REPEATED:
            raise Rejected(Reason.REPEATED, "duplicate: an earlier example has the same file")
