"""A source of examples that a test holds itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """An `ExampleSource`. `codes`: per modality, those of each example (frames × codebooks)."""

    name: str
    codes: Mapping[str, Sequence[np.ndarray]]
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.groups)

    def example(self, index: int) -> dict[str, np.ndarray]:
        return {modality: items[index].astype(np.int32) for modality, items in self.codes.items()}

    @property
    def num_codes(self) -> dict[str, np.ndarray]:
        return {
            modality: np.array([item.size for item in items], dtype=np.int64)
            for modality, items in self.codes.items()
        }
