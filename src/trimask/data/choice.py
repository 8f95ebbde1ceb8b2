"""Choose which examples of a source to read if not all are needed."""

import numpy as np

from trimask import rng
from trimask.data.source import ExampleSource


def choose(source: ExampleSource, count: int, seed: int) -> list[int]:
    """Choose `count` examples (or all): one of each group in random order, then a second of each, …."""
    shuffled = rng.generator(seed, "choose", source.name).permutation(len(source))
    groups = source.groups[shuffled]
    order = np.argsort(groups, kind="stable")
    place = np.arange(len(order))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = groups[order[1:]] != groups[order[:-1]]
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return shuffled[np.argsort(turn, kind="stable")[:count]].tolist()
