"""Group examples that share a text or a file, directly or through other examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt64
from numpy import ndarray
from scipy import sparse
from scipy.sparse import csgraph

Nodes = UInt64[ndarray, "rows"]
"""A 64-bit hash per row of one kind of content (its text, its picture …); 0: none."""
_LAST = np.uint64(2**64 - 1)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """A map from nodes to small numbers; `nodes` are sorted."""

    nodes: UInt64[ndarray, "marked"]
    values: UInt8[ndarray, "marked"]

    @classmethod
    def largest(
        cls, nodes: Sequence[UInt64[ndarray, "_rows"]], values: Sequence[UInt8[ndarray, "_rows"]]
    ) -> "Marks":
        """Map each node to the largest of its values."""
        every, marks = np.concatenate(nodes), np.concatenate(values)
        order = np.lexsort((marks, every))
        every, marks = every[order], marks[order]
        is_last = np.append(every[1:] != every[:-1], True)[: len(every)] & (every != 0)
        return cls(nodes=every[is_last], values=marks[is_last])

    def of(self, nodes: Nodes) -> UInt8[ndarray, "rows"]:
        """Return the mark of each node; 0 for a node without one."""
        places, found = _find(self.nodes, nodes)
        return np.where(found, self.values[places] if len(self.values) else 0, 0).astype(np.uint8)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Groups of examples; all examples of a group are assigned to the same split.

    Attributes:
        nodes: sorted; shared by several rows, or by a row of such a group alone.
        positions: the position of each node's group in [0, 1), which determines the split; 1 for a group of
            more than half of the rows.
        largest: number of examples in the largest group.
    """

    nodes: UInt64[ndarray, "shared"]
    positions: Float64[ndarray, "shared"]
    largest: int

    @classmethod
    def of(cls, subjects: Nodes, files: Sequence[Nodes]) -> "Groups":
        """Find the connected components of rows, where rows that share a node are connected.

        The position of a group is that of its subject with the smallest hash, so it does not depend on the
        order of rows. A group with a single subject has that subject's own position and need not be stored.
        A group of more than half of the rows has position 1, so it is never drawn for a held-out split.
        """
        columns = (subjects, *files)
        shared = np.unique(np.concatenate([_find_repeated(column) for column in columns]))
        places, found = zip(*(_find(shared, column) for column in columns), strict=True)
        labels = _components(len(shared), places, found)
        row = np.full(len(subjects), -1, dtype=np.int64)
        for place, is_found in zip(places, found, strict=True):
            row[is_found] = labels[place[is_found]]
        grouped = row >= 0
        sizes = np.bincount(row[grouped], minlength=1)
        positions = _positions(row[grouped], [column[grouped] for column in columns])
        positions[2 * sizes[: len(positions)] > len(subjects)] = 1.0
        # The subject of a grouped row may also occur in rows without files, which look it up later.
        is_alone = grouped & ~found[0] & (subjects != 0)
        nodes = np.concatenate([shared, subjects[is_alone]])
        falls = positions[np.concatenate([labels, row[is_alone]])]
        order = np.argsort(nodes)
        return cls(nodes=nodes[order], positions=falls[order], largest=int(sizes.max()))

    def of_rows(self, subjects: Nodes, files: Sequence[Nodes]) -> Float64[ndarray, "rows"]:
        """Return the position of each row's group."""
        alone = subjects.copy()
        for column in files:
            alone = np.where(alone == 0, column, alone)
        position = _fraction(alone)
        for column in (subjects, *files):
            places, found = _find(self.nodes, column)
            position = np.where(found, self.positions[places] if len(self.nodes) else 0.0, position)
        return position


def find_repeated_rows(identity: Nodes) -> Bool[ndarray, "rows"]:
    """Return whether an earlier row has the same identity; 0 equals nothing."""
    order = np.argsort(identity, kind="stable")
    ordered = identity[order]
    again = np.zeros(len(identity), dtype=bool)
    again[order[1:]] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    return again


def mix_bits(nodes: Nodes) -> Nodes:
    """Hash numbers with SplitMix64's finalizer, so that their order is independent of the input's."""
    nodes = (nodes ^ (nodes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    nodes = (nodes ^ (nodes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return nodes ^ (nodes >> np.uint64(31))


def _fraction(nodes: Nodes) -> Float64[ndarray, "rows"]:
    """Map nodes to [0, 1), as `hash_fraction` maps the names that they are hashes of."""
    return (nodes >> np.uint64(12)).astype(np.float64) / 2.0**52


def _find_repeated(nodes: Nodes) -> UInt64[ndarray, "repeated"]:
    """Return the nodes that occur in more than one row, sorted."""
    ordered = np.sort(nodes)
    return np.unique(ordered[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)])


def _find(
    ordered: UInt64[ndarray, "nodes"], wanted: Nodes
) -> tuple[Int64[ndarray, "rows"], Bool[ndarray, "rows"]]:
    """Return the index of each wanted node in `ordered`, and whether it is there."""
    if not len(ordered):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return places, ordered[places] == wanted


def _components(
    num_nodes: int, places: Sequence[Int64[ndarray, "rows"]], found: Sequence[Bool[ndarray, "rows"]]
) -> Int64[ndarray, "nodes"]:
    """Return the component of each node; nodes of one row are connected."""
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
    """Return the position of each group: that of its first subject, or of its first file if it has none."""
    num_groups = int(row.max(initial=-1)) + 1
    positions = np.full(num_groups, -1.0)
    for column in columns:
        is_open = (column != 0) & (positions[row] < 0)
        group, nodes = row[is_open], column[is_open]
        order, first = mix_bits(nodes), np.full(num_groups, _LAST)
        np.minimum.at(first, group, order)
        is_first = order == first[group]
        positions[group[is_first]] = _fraction(nodes[is_first])
    return positions
