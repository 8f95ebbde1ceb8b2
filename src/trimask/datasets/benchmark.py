"""What a benchmark set is, and what reading one gives."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from trimask.datasets.store import PackageStore


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A work that a set is made of, for LICENCES.md."""

    work: str
    licence: str
    attribution: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What a set holds.

    Attributes:
        rows: of metadata.jsonl: `file_name` and `text` of each example, its `split`, and more.
        dropped: reason -> the names of what was left out for it.
    """

    rows: list[dict[str, Any]]
    sources: tuple[Source, ...]
    dropped: dict[str, list[str]] = field(default_factory=dict)


class Benchmark(ABC):
    """A set with its options: a frozen dataclass.

    Attributes:
        prepare_options: what `trimask prepare` needs to be told about the folder.
    """

    name: ClassVar[str]
    prepare_options: ClassVar[str]

    @abstractmethod
    def collect(self, store: PackageStore, folder: Path) -> Collected:
        """Read the packages and put the files of the set into `folder`, which may hold some from before.

        Raises:
            UserError, OSError: a package is not what it should be, or cannot be had.
        """
