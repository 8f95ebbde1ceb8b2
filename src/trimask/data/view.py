"""A source of which examples give some of their modalities: triples as pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from trimask.data.source import ExampleSource
from trimask.errors import UserError

_OF = ":"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """`source` with some of its `modalities`, named `SOURCE:speech+image`; examples, groups and their order
    are the source's.

    Raises: UserError if the source lacks a modality.
    """

    source: ExampleSource
    modalities: tuple[str, ...]

    def __post_init__(self) -> None:
        missing = [name for name in self.modalities if name not in self.source.num_codes]
        if missing:
            raise UserError(
                f"{self.name}: {self.source.name} has no {' and no '.join(missing)}, only "
                f"{', '.join(self.source.num_codes)}"
            )

    @property
    def name(self) -> str:
        return f"{self.source.name}{_OF}{'+'.join(self.modalities)}"

    @property
    def groups(self) -> Int[np.ndarray, "examples"]:
        return self.source.groups

    @property
    def num_codes(self) -> Mapping[str, Int[np.ndarray, "examples"]]:
        return {name: self.source.num_codes[name] for name in self.modalities}

    def __len__(self) -> int:
        return len(self.source)

    def example(self, index: int) -> dict[str, Int[np.ndarray, "_frames _codebooks"]]:
        codes = self.source.example(index)
        return {name: codes[name] for name in self.modalities}


def add_views(sources: Mapping[str, ExampleSource], names: tuple[str, ...]) -> dict[str, ExampleSource]:
    """Return `sources` with the views that `names` ask for, as `SOURCE:speech+image`. Other names, and views
    of sources that are not there, are passed over.
    """
    found = dict(sources)
    for name in names:
        source, colon, modalities = name.partition(_OF)
        if colon and source in sources:
            found[name] = View(source=sources[source], modalities=tuple(modalities.split("+")))
    return found
