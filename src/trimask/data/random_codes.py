"""Random codes in place of data, for timing and measuring steps of any recipe."""

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Int

from trimask import rng
from trimask.data.selection import StatedData, StatedSource
from trimask.errors import UserError
from trimask.vocabulary.layout import CodeSpace


@final
class RandomCodes:
    """An `ExampleSource` of uniformly random codes with the stated lengths; example i is a function of (seed,
    i).
    """

    def __init__(self, source: StatedSource, spaces: Sequence[CodeSpace], *, num_examples: int, seed: int):
        if num_examples < 1:
            raise UserError(f"num_examples {num_examples}: must be at least 1")
        rows = {space.name: space for space in spaces}
        self._numbers = {space.name: number for number, space in enumerate(spaces)}
        self._name = source.name
        self._seed = seed
        self._num_examples = num_examples
        self._shapes = {
            modality: (frames, rows[modality].num_codebooks)
            for modality, frames in source.num_frames(spaces).items()
        }
        self._sizes = {modality: rows[modality].codebook_size for modality in self._shapes}

    @property
    def name(self) -> str:
        return self._name

    def __len__(self) -> int:
        return self._num_examples

    @property
    def groups(self) -> Int[np.ndarray, "examples"]:
        """Each example is a group of its own."""
        return np.arange(self._num_examples)

    @property
    def num_codes(self) -> dict[str, Int[np.ndarray, "examples"]]:
        return {
            modality: np.full(self._num_examples, frames * codebooks)
            for modality, (frames, codebooks) in self._shapes.items()
        }

    def example(self, index: int) -> dict[str, Int[np.ndarray, "_frames _codebooks"]]:
        assert 0 <= index < self._num_examples, f"example {index} of {self._num_examples}"
        return {
            modality: rng.generator(
                self._seed, "random codes", self._name, index, self._numbers[modality]
            ).integers(self._sizes[modality], size=shape, dtype=np.int32)
            for modality, shape in self._shapes.items()
        }


def random_sources(data: StatedData, *, num_examples: int = 4096, seed: int = 0) -> Mapping[str, RandomCodes]:
    """Return random codes for each source of `data`, by name."""
    return {
        source.name: RandomCodes(source, data.spaces, num_examples=num_examples, seed=seed)
        for source in data.sources
    }
