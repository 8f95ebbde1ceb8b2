"""What a tokenizer trains on."""

from dataclasses import dataclass
from typing import final

from trimask.errors import UserError
from trimask.sources.options import PrepareOptions


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedSignals:
    """The pictures, or the recordings, of the embedded data."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RawSignals:
    """Pictures or recordings of anyone's: folders, files or data sets on the hub, as `trimask prepare` reads
    them; those without a text count too.

    Attributes:
        fingerprints: one for each source: a run never goes on with other files.
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
"""What a tokenizer trains on."""
