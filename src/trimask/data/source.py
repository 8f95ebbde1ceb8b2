"""What a mixture draws from."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int


@runtime_checkable
class ExampleSource(Protocol):
    """What a mixture draws from: examples that all have the same modalities, by index.

    `groups` numbers each example's group: sampling draws a group first, then one of its examples. `num_codes`
    counts each example's codes (frames × codebooks) per modality; both are read without the codes themselves.
    """

    @property
    def name(self) -> str: ...
    @property
    def groups(self) -> Int[np.ndarray, "examples"]: ...
    @property
    def num_codes(self) -> Mapping[str, Int[np.ndarray, "examples"]]: ...
    def __len__(self) -> int: ...
    def example(self, index: int) -> dict[str, Int[np.ndarray, "_frames _codebooks"]]: ...
