"""What stands where in the stream of training sequences: a pure function of (seed, index)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from trimask import rng
from trimask.data.tokens import ExampleSource
from trimask.vocabulary.modality import Task


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A task on a source. `weight` is its share of *sequences*, relative to the other components'."""

    source: str
    task: Task
    weight: float

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(
                f"component {self.source}/{self.task.value}: weight {self.weight} must be above 0"
            )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureConfig:
    """Components, mixed block by block: each block of `block_length` sequences holds each component's exact
    share (rounded), in an order shuffled by (seed, block) [L: levanter's block-deterministic mixture].
    """

    components: tuple[Component, ...]
    block_length: int = 256

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("a mixture needs at least one component")
        if self.block_length < len(self.components):
            raise ValueError(
                f"block_length {self.block_length} is shorter than the {len(self.components)} components: "
                "every component needs a place in each block"
            )


@final
class Mixture:
    """Random access to (component, example) by sequence index."""

    def __init__(self, config: MixtureConfig, sources: Mapping[str, ExampleSource], seed: int):
        missing = sorted({c.source for c in config.components} - set(sources))
        if missing:
            raise ValueError(f"no source named {', '.join(missing)}: there are {', '.join(sorted(sources))}")
        self.config = config
        self.sources = sources
        self.seed = seed
        self.counts = _shares([c.weight for c in config.components], config.block_length)
        self._groups = {name: _GroupedOrder(source, seed) for name, source in sources.items()}

    def component(self, index: int) -> tuple[int, int]:
        """(component number, how many of that component came before) of sequence `index`."""
        block, offset = divmod(index, self.config.block_length)
        order = rng.generator(self.seed, "mixture", block).permutation(
            np.repeat(np.arange(len(self.counts)), self.counts)
        )
        number = int(order[offset])
        return number, block * int(self.counts[number]) + int((order[:offset] == number).sum())

    def example(self, index: int) -> tuple[Component, int]:
        """(component, example number in its source) of sequence `index`."""
        number, ordinal = self.component(index)
        component = self.config.components[number]
        return component, self._groups[component.source].example(ordinal, stream=number)

    def epochs(self, num_sequences: int) -> list[float]:
        """Per component: how often its source's groups are seen in `num_sequences`."""
        return [
            num_sequences * int(count) / self.config.block_length / self._groups[component.source].num_groups
            for component, count in zip(self.config.components, self.counts, strict=True)
        ]


@final
class _GroupedOrder:
    """The order of a source's examples: each epoch shuffles the groups, and takes one example of each."""

    def __init__(self, source: ExampleSource, seed: int):
        self._order = np.argsort(source.groups, kind="stable")
        starts = np.flatnonzero(np.diff(source.groups[self._order])) + 1
        self._starts = np.concatenate([[0], starts, [len(source.groups)]])
        self._name = source.name
        self._seed = seed

    @property
    def num_groups(self) -> int:
        return len(self._starts) - 1

    def example(self, ordinal: int, *, stream: int) -> int:
        epoch, place = divmod(ordinal, self.num_groups)
        order = rng.key(self._seed, "groups", self._name, stream, epoch)
        group = rng.shuffled(place, self.num_groups, order)
        members = self._order[self._starts[group] : self._starts[group + 1]]
        # Variants take turns from a start of their own, so that each is seen equally often.
        start = rng.key(self._seed, "variant", self._name, stream, group)
        return int(members[(start + epoch) % len(members)])


def _shares(weights: Sequence[float], total: int) -> Int[np.ndarray, "components"]:
    """Integers that add up to `total`, in proportion to `weights`, each at least 1 (largest remainder)."""
    exact = np.array(weights) / sum(weights) * total
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    while counts.sum() < total:
        counts[int(np.argmax(exact - counts))] += 1
    while counts.sum() > total:
        counts[int(np.argmax(np.where(counts > 1, counts - exact, -np.inf)))] -= 1
    return counts
