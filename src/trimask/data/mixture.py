"""The order of training sequences as a pure function of (seed, index)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int, Real

from trimask import rng
from trimask.data.source import ExampleSource
from trimask.errors import UserError
from trimask.vocabulary.task import TASKS, Task

_LONGEST_BLOCK = 1 << 20  # sequences: a block's order is kept in memory


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A task on a source. `weight` is its share of the run's *target tokens*, relative to the others'.

    Target tokens are the codes (frames × codebooks) of the modalities that the task generates, on which the
    loss is computed. Conditions, special tokens and end frames (a random number per sequence) do not count.
    All weights have one unit: a modality's weight is the sum over its tasks, a task's the sum over its
    sources.
    """

    source: str
    task: str
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise UserError(
                f"component {self.source}/{self.task}: weight {self.weight} must be above 0 and finite"
            )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureConfig:
    """Components, mixed block by block: each block of `block_length` sequences holds each component's share
    of *sequences*, rounded up or down, in an order shuffled by (seed, block) [L: levanter's
    block-deterministic mixture].

    The shares of sequences follow from weights and sources (`sequence_shares`). Rounding averages out over
    blocks, so that small shares hold in the long run; those below 1 / block_length skip blocks.

    Attributes:
        group_exponent: an epoch draws n ** group_exponent examples (rounded, at least 1) of a group of n: 0
            takes each group once, 1 takes each example once [D; temperature sampling of languages].
    """

    components: tuple[Component, ...]
    block_length: int = 256
    group_exponent: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.group_exponent <= 1:
            raise UserError(f"group_exponent {self.group_exponent}: give a number from 0 to 1")
        if not self.components:
            raise UserError("a mixture needs at least one component")
        if not 1 <= self.block_length <= _LONGEST_BLOCK:
            raise UserError(
                f"block_length {self.block_length}: give at least 1 and at most {_LONGEST_BLOCK:,}"
            )


@final
class Mixture:
    """Random access to (component, example) by sequence index.

    Attributes:
        shares: share of sequences of each component; they add up to 1.
    """

    def __init__(
        self,
        config: MixtureConfig,
        sources: Mapping[str, ExampleSource],
        seed: int,
        *,
        tasks: Sequence[Task] = TASKS,
    ):
        missing = sorted({c.source for c in config.components} - set(sources))
        if missing:
            raise UserError(f"no source named {', '.join(missing)}: there are {', '.join(sorted(sources))}")
        self.config = config
        self.sources = sources
        self.seed = seed
        groups = {name: sources[name].groups for name in {c.source for c in config.components}}
        means = {
            name: {
                modality: mean_as_drawn(codes, groups[name], config.group_exponent)
                for modality, codes in sources[name].num_codes.items()
            }
            for name in groups
        }
        self.shares = sequence_shares(config.components, means, tasks)
        self._groups = {
            name: _GroupedOrder(name, groups[name], config.group_exponent, seed) for name in groups
        }
        self._counts = block_counts(self.shares, config.block_length)
        self._before = np.concatenate([np.zeros_like(self._counts[:1]), self._counts.cumsum(0)])
        self._newest = (-1, np.zeros(0, dtype=np.int64))

    def component(self, index: int) -> tuple[int, int]:
        """Return sequence `index` as (component number, number of earlier sequences of that component)."""
        block, offset = divmod(index, self.config.block_length)
        cycle, place = divmod(block, NUM_BLOCKS)
        if self._newest[0] != block:  # the whole block will be needed soon
            numbers = np.repeat(np.arange(len(self.shares)), self._counts[place])
            self._newest = block, rng.generator(self.seed, "mixture", block).permutation(numbers)
        order = self._newest[1]
        number = int(order[offset])
        before = cycle * int(self._before[-1, number]) + int(self._before[place, number])
        return number, before + int((order[:offset] == number).sum())

    def example(self, index: int) -> tuple[Component, int]:
        """Return sequence `index` as (component, example number in its source)."""
        number, ordinal = self.component(index)
        component = self.config.components[number]
        return component, self._groups[component.source].example(ordinal, stream=number)


def count_draws(sizes: Int[np.ndarray, "groups"], group_exponent: float) -> Int[np.ndarray, "groups"]:
    """Return how many examples an epoch draws from groups of `sizes`."""
    return np.rint(sizes.astype(np.float64) ** group_exponent).astype(np.int64)


def mean_as_drawn(
    values: Sequence[int] | Real[np.ndarray, "examples"],
    groups: Int[np.ndarray, "examples"],
    group_exponent: float,
) -> float:
    """Return the mean of a per-example value as a mixture draws examples: groups are weighted by their draws,
    examples within a group equally.
    """
    _, number = np.unique(groups, return_inverse=True)
    sizes = np.bincount(number)
    means = np.bincount(number, weights=values) / sizes
    return float(np.average(means, weights=count_draws(sizes, group_exponent)))


def target_tokens(task: Task, num_codes: Mapping[str, int | float]) -> float:
    """Count the target tokens of `task` in an example with `num_codes` codes per modality."""
    return float(sum(num_codes[modality] for modality in task.targets_of(list(num_codes))))


def sequence_shares(
    components: Sequence[Component], means: Mapping[str, Mapping[str, float]], tasks: Sequence[Task]
) -> Float[np.ndarray, "components"]:
    """Return the shares of sequences that give the components their weights in target tokens:
    (weight / mean target tokens of an example), normalized. `means`: codes of an example per source and
    modality.

    Raises:
        UserError: the examples of a component have no target tokens.
    """
    rows = {task.name: task for task in tasks}
    rates = []
    for component in components:
        mean = target_tokens(rows[component.task], means[component.source])
        if not mean > 0:
            raise UserError(f"{component.source} has nothing for {component.task} to generate: leave it out")
        rates.append(component.weight / mean)
    return np.array(rates) / sum(rates)


NUM_BLOCKS = 1024
"""Blocks per cycle, a power of 2; block counts repeat after a cycle."""


def block_counts(shares: Float[np.ndarray, "components"], block_length: int) -> Int[np.ndarray, "blocks k"]:
    """Return how many sequences each component has in each block of a cycle.

    The sequences of a cycle are sorted by component, and block b takes every `NUM_BLOCKS`-th, starting at the
    reversed bits of b [L: systematic sampling; van der Corput's sequence]. So a block is full and has each
    share rounded up or down, the counts up to any block are within a few of the exact ones, and those of a
    cycle within one.
    """
    ends = np.cumsum(_apportion(shares, block_length * NUM_BLOCKS))
    bits = NUM_BLOCKS.bit_length() - 1
    starts = np.array([int(f"{block:0{bits}b}"[::-1], 2) for block in range(NUM_BLOCKS)])
    taken = -((starts[:, None] - ends) // NUM_BLOCKS)  # of those that stand before each end
    return np.diff(taken, axis=1, prepend=0)


def _apportion(shares: Float[np.ndarray, "components"], total: int) -> Int[np.ndarray, "components"]:
    """Apportion `total` in proportion to `shares` as integers of at least 1 (largest remainder)."""
    exact = shares * total
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    while counts.sum() < total:
        counts[int(np.argmax(exact - counts))] += 1
    while counts.sum() > total:
        counts[int(np.argmax(np.where(counts > 1, counts - exact, -np.inf)))] -= 1
    return counts


@final
class _GroupedOrder:
    """The order of a source's examples: each epoch shuffles the groups' draws (several for larger groups) and
    takes one example per draw.
    """

    def __init__(self, name: str, groups: Int[np.ndarray, "examples"], exponent: float, seed: int):
        self._order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[self._order])) + 1
        self._starts = np.concatenate([[0], starts, [len(groups)]])
        self._num_turns = count_draws(np.diff(self._starts), exponent)
        self._first_turn = np.concatenate([[0], np.cumsum(self._num_turns)])
        self._name = name
        self._seed = seed

    def example(self, ordinal: int, *, stream: int) -> int:
        epoch, place = divmod(ordinal, int(self._first_turn[-1]))
        order = rng.key(self._seed, "groups", self._name, stream, epoch)
        turn = rng.permute_index(place, int(self._first_turn[-1]), order)
        group = int(np.searchsorted(self._first_turn, turn, side="right")) - 1
        members = self._order[self._starts[group] : self._starts[group + 1]]
        # Variants take turns from a random start, so that each is seen equally often.
        start = rng.key(self._seed, "variant", self._name, stream, group)
        taken = epoch * int(self._num_turns[group]) + turn - int(self._first_turn[group])
        return int(members[(start + taken) % len(members)])
