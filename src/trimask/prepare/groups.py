"""Which examples belong together: those that share a text or a file, and those that share with these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt64
from numpy import ndarray
from scipy import sparse
from scipy.sparse import csgraph

Nodes = UInt64[ndarray, "rows"]
"""What each row has of one kind (its text, its picture …), as a number; 0: nothing."""
_LAST = np.uint64(2**64 - 1)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """A number for each of some nodes."""

    nodes: UInt64[ndarray, "marked"]
    values: UInt8[ndarray, "marked"]

    @classmethod
    def largest(
        cls, nodes: Sequence[UInt64[ndarray, "_rows"]], values: Sequence[UInt8[ndarray, "_rows"]]
    ) -> "Marks":
        """Each node with the largest of the values that it is given."""
        every, marks = np.concatenate(nodes), np.concatenate(values)
        order = np.lexsort((marks, every))
        every, marks = every[order], marks[order]
        is_last = np.append(every[1:] != every[:-1], True)[: len(every)] & (every != 0)
        return cls(nodes=every[is_last], values=marks[is_last])

    def of(self, nodes: Nodes) -> UInt8[ndarray, "rows"]:
        """The mark of each node; 0 where it has none."""
        places, found = _find(self.nodes, nodes)
        return np.where(found, self.values[places] if len(self.values) else 0, 0).astype(np.uint8)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Examples that are drawn together.

    Attributes:
        nodes, positions: what they share, and where in [0, 1) their group falls.
        largest: examples of the largest group.
    """

    nodes: UInt64[ndarray, "shared"]
    positions: Float64[ndarray, "shared"]
    largest: int

    @classmethod
    def of(cls, subjects: Nodes, files: Sequence[Nodes]) -> "Groups":
        """The connected components of rows, of which two are joined where they share a node.

        A group falls where the one of its subjects does that comes first in an order of their own, so that
        it does not depend on the order of rows; a group of one subject falls as that subject does alone, and
        need not be kept. A group of more than half of the rows is at 1: it is in no part that is drawn.
        """
        columns = (subjects, *files)
        shared = np.unique(np.concatenate([_repeated(column) for column in columns]))
        places, found = zip(*(_find(shared, column) for column in columns), strict=True)
        labels = _components(len(shared), places, found)
        row = np.full(len(subjects), -1, dtype=np.int64)
        for place, is_found in zip(places, found, strict=True):
            row[is_found] = labels[place[is_found]]
        grouped = row >= 0
        sizes = np.bincount(row[grouped], minlength=1)
        positions = _positions(row[grouped], [column[grouped] for column in columns])
        positions[2 * sizes[: len(positions)] > len(subjects)] = 1.0
        # A file of one row is not looked up, its subject may be: by rows that have no file.
        is_alone = grouped & ~found[0] & (subjects != 0)
        nodes = np.concatenate([shared, subjects[is_alone]])
        falls = positions[np.concatenate([labels, row[is_alone]])]
        order = np.argsort(nodes)
        return cls(nodes=nodes[order], positions=falls[order], largest=int(sizes.max()))

    def of_rows(self, subjects: Nodes, files: Sequence[Nodes]) -> Float64[ndarray, "rows"]:
        """Where the group of each row falls."""
        alone = subjects.copy()
        for column in files:
            alone = np.where(alone == 0, column, alone)
        position = _fraction(alone)
        for column in (subjects, *files):
            places, found = _find(self.nodes, column)
            position = np.where(found, self.positions[places] if len(self.nodes) else 0.0, position)
        return position


def repeated_rows(identity: Nodes) -> Bool[ndarray, "rows"]:
    """Whether an earlier row is identical; 0 is identical to nothing."""
    order = np.argsort(identity, kind="stable")
    ordered = identity[order]
    again = np.zeros(len(identity), dtype=bool)
    again[order[1:]] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    return again


def mixed(nodes: Nodes) -> Nodes:
    """SplitMix64's finalizer: an order, or a start of a new number, that has nothing to do with the old."""
    nodes = (nodes ^ (nodes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    nodes = (nodes ^ (nodes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return nodes ^ (nodes >> np.uint64(31))


def _fraction(nodes: Nodes) -> Float64[ndarray, "rows"]:
    """As `hash_fraction` of the name whose number it is."""
    return (nodes >> np.uint64(12)).astype(np.float64) / 2.0**52


def _repeated(nodes: Nodes) -> UInt64[ndarray, "repeated"]:
    """The nodes of more than one row."""
    ordered = np.sort(nodes)
    return np.unique(ordered[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)])


def _find(
    ordered: UInt64[ndarray, "nodes"], wanted: Nodes
) -> tuple[Int64[ndarray, "rows"], Bool[ndarray, "rows"]]:
    """Where each stands in `ordered`, and whether it does."""
    if not len(ordered):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return places, ordered[places] == wanted


def _components(
    num_nodes: int, places: Sequence[Int64[ndarray, "rows"]], found: Sequence[Bool[ndarray, "rows"]]
) -> Int64[ndarray, "nodes"]:
    """The number of each node's component: a row joins all the nodes that it has."""
    ends: list[tuple[ndarray, ndarray]] = []
    for one in range(len(places)):
        for other in range(one):
            both = found[one] & found[other]
            ends.append((places[one][both], places[other][both]))
    if not num_nodes:
        return np.zeros(0, dtype=np.int64)
    starts, stops = (np.concatenate(side) for side in zip(*ends, strict=True))
    graph = sparse.coo_matrix(
        (np.ones(len(starts), dtype=bool), (starts, stops)), shape=(num_nodes, num_nodes)
    )
    return csgraph.connected_components(graph, directed=False)[1].astype(np.int64)


def _positions(row: Int64[ndarray, "rows"], columns: Sequence[Nodes]) -> Float64[ndarray, "groups"]:
    """Where each group falls: by the first subject of it, or the first file where it has none."""
    num_groups = int(row.max(initial=-1)) + 1
    positions = np.full(num_groups, -1.0)
    for column in columns:
        is_open = (column != 0) & (positions[row] < 0)
        group, nodes = row[is_open], column[is_open]
        order, first = mixed(nodes), np.full(num_groups, _LAST)
        np.minimum.at(first, group, order)
        is_first = order == first[group]
        positions[group[is_first]] = _fraction(nodes[is_first])
    return positions
