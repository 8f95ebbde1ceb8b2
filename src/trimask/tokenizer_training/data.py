"""The training data of a tokenizer."""

from dataclasses import dataclass
from typing import final

from trimask.errors import UserError
from trimask.sources.options import PrepareOptions


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedSignals:
    """The pictures or recordings of the embedded data."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RawSignals:
    """Pictures or recordings in folders, files or data sets on the hub, read as by `trimask prepare`.

    Those without a text are used too.

    Attributes:
        sources: as for `trimask prepare`.
        fingerprints: one for each source, to detect changes when a run is resumed.
        options: columns, splits and limits.
    """

    sources: tuple[str, ...]
    fingerprints: tuple[str, ...]
    options: PrepareOptions = PrepareOptions(needs_text=False)

    def __post_init__(self) -> None:
        if not self.sources or len(self.sources) != len(self.fingerprints):
            raise UserError(
                f"{len(self.sources)} sources and {len(self.fingerprints)} fingerprints: give one for each "
                "source, and at least one source"
            )


SignalData = EmbeddedSignals | RawSignals
"""The training data of a tokenizer."""
