"""The data of a run: part of the embedded data, prepared folders, or data that is only stated; for
tokenizers, raw pictures or recordings.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from trimask.errors import UserError
from trimask.vocabulary.layout import CodeSpace

_LONGEST_SPEECH = 86_400  # seconds
_MOST_CODES = 1 << 22  # of an example, since planning holds them in memory


class Data(ABC):
    """What a run trains on. What a run does with each kind stands in `runs.kinds`.

    Attributes:
        text_window: ids of a text passage at most; one that fills it was cut.
    """

    __slots__ = ()
    text_window: int

    @abstractmethod
    def without_places(self) -> "Data":
        """The same with names in the place of paths, as exported weights tell it."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedData(Data):
    """Prepared folders. Sources of one name (`images`, …) in several folders are read as one.

    Attributes:
        manifests: SHA-256 of each folder's manifest.json, so that a run never continues on other data.
        text_window: ids of a text passage at most, as they were prepared; one that fills it was cut.
    """

    folders: tuple[Path, ...]
    manifests: tuple[str, ...]
    text_window: int

    def __post_init__(self) -> None:
        if not self.folders or len(self.folders) != len(self.manifests):
            raise UserError(
                f"{len(self.folders)} folders and {len(self.manifests)} manifests: give one hash for each "
                "folder, and at least one folder"
            )

    def without_places(self) -> "PreparedData":
        return replace(self, folders=tuple(Path(folder.name) for folder in self.folders))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartData(Data):
    """A choice of the embedded data ("spoken emoji and speeches").

    Attributes:
        num_concepts: base emoji to train on, spread over the groups (None: all).
        has_flags: whether country flags count among them.
        has_variants: whether variants such as skin tones are included.
        num_sentences: sentences read aloud (None: all).
        voices: readers to keep.
        readings: a folder that `python -m trimask.datasets.quickstart.readings` wrote, with more sentences:
            its readings, which include the embedded ones, replace them in training. Held-out readings stay
            held out.
        text_window: ids of a text passage at most; longer paragraphs are cut into windows. One that fills it
            was cut.
    """

    num_concepts: int | None = None
    has_flags: bool = False
    has_variants: bool = True
    num_sentences: int | None = None
    voices: tuple[str, ...] = ("slt", "rms")
    readings: Path | None = None
    text_window: int = 128

    def __post_init__(self) -> None:
        for name in ("num_concepts", "num_sentences"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1, or none for all")
        if not self.voices:
            raise UserError("voices is empty: name at least one of slt, rms")
        if self.text_window < 8:
            raise UserError(f"text_window {self.text_window}: a passage needs at least 8 ids")

    def without_places(self) -> "QuickstartData":
        return self if self.readings is None else replace(self, readings=Path(self.readings.name))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StatedSource:
    """The average example of a source; the number of examples is unknown.

    Attributes:
        lengths: of each modality that it has, by name: seconds where there is a frame rate, 1 for a picture,
            else frames (ids of text).
    """

    name: str
    lengths: dict[str, int | float]

    def __post_init__(self) -> None:
        if not self.lengths:
            raise UserError(f"source {self.name}: lengths is empty, state at least one modality")
        for modality, length in self.lengths.items():
            if not 0 < length < math.inf:
                raise UserError(
                    f"source {self.name}: length {length} of {modality} must be above 0 and finite"
                )

    def num_frames(self, spaces: Sequence[CodeSpace]) -> dict[str, int]:
        """Return the frames of each modality: ids, cells, or started 1 / frame_rate seconds.

        Raises:
            UserError: a modality is not in `spaces`, or a length is impossible for it.
        """
        rows = {space.name: space for space in spaces}
        unknown = sorted(set(self.lengths) - set(rows))
        if unknown:
            raise UserError(f"source {self.name} has {unknown[0]}, and the modalities are {', '.join(rows)}")
        return {name: _frames(rows[name], length, self.name) for name, length in self.lengths.items()}

    def num_codes(self, spaces: Sequence[CodeSpace]) -> dict[str, int]:
        """Return the codes of each modality."""
        books = {space.name: space.num_codebooks for space in spaces}
        return {modality: count * books[modality] for modality, count in self.num_frames(spaces).items()}


def _frames(space: CodeSpace, length: int | float, source: str) -> int:
    if space.frame_rate is not None:
        if length > _LONGEST_SPEECH:
            raise UserError(
                f"source {source}: {length:,} seconds of {space.name}, give at most {_LONGEST_SPEECH:,}"
            )
        return math.ceil(length * space.frame_rate - 1e-6)
    wanted = 1 if space.grid is not None else round(length)
    if length != wanted:
        what = "one picture, 1" if space.grid is not None else "a whole number of frames"
        raise UserError(f"source {source}: length {length} of {space.name} must be {what}")
    return wanted if space.grid is None else math.prod(space.grid)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StatedData(Data):
    """Data that a recipe is meant for and that is not there: enough to size, plan and time a run, and to be
    replaced by prepared data in order to train.

    Attributes:
        spaces: the modalities, as their tokenizers would declare them.
        text_window: ids of a text passage at most; one that fills it was cut.
    """

    spaces: tuple[CodeSpace, ...]
    sources: tuple[StatedSource, ...]
    text_window: int

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("sources is empty: state at least one")
        for source in self.sources:
            codes = sum(source.num_codes(self.spaces).values())
            if codes > _MOST_CODES:
                raise UserError(
                    f"source {source.name}: an example has {codes:,} codes with these spaces; state fewer "
                    f"ids of text, seconds or cells, for {_MOST_CODES:,} codes at most"
                )

    def without_places(self) -> "StatedData":
        return self
