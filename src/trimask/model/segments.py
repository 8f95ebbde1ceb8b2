"""Segments of documents: consecutive queries that attend to the same keys."""

import enum
import itertools
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor


class ConditionAttention(enum.Enum):
    """What a document's prefix (task token and leading conditions, `Sequence.prefix_length`) attends to.

    The full document; or the prefix alone, as in a prefix language model (Raffel et al. 2020,
    arXiv 1910.10683 [L]), so that its keys and values do not depend on the targets and can be kept from one
    sampling step to the next without error. Targets attend to the full document either way.
    """

    FULL = "full"
    PREFIX = "prefix"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Consecutive documents that are alike.

    Attributes:
        count: how many.
        length, prefix: positions of each document, and of its prefix.
        num_active, num_active_in_prefix: its queries, and those of its prefix.
    """

    count: int
    length: int
    prefix: int
    num_active: int
    num_active_in_prefix: int


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Segments:
    """The segments of each document: its prefix, which attends to itself alone, and the rest, which attends
    to the full document. Queries are the active positions; keys are all of them. Best on the host.

    Attributes:
        boundaries: document boundaries in positions.
        prefixes: positions of each document's prefix; 0 if it has none.
        num_active, num_active_in_prefix: queries of each document, and of its prefix.
    """

    boundaries: Int[Tensor, "boundaries"]
    prefixes: Int[Tensor, "documents"]
    num_active: Int[Tensor, "documents"]
    num_active_in_prefix: Int[Tensor, "documents"]

    @classmethod
    def of(
        cls,
        boundaries: Int[Tensor, "boundaries"],
        *,
        prefixes: Int[Tensor, "documents"] | None = None,
        active: Int[Tensor, "active"] | None = None,
    ) -> "Segments":
        """Divide documents with these `boundaries`. No `prefixes`: every position attends to its document.

        Args:
            active: sorted; None for all.
        """
        lengths = boundaries.diff()
        prefixes = torch.zeros_like(lengths) if prefixes is None else prefixes
        if active is None:
            return cls(
                boundaries=boundaries, prefixes=prefixes, num_active=lengths, num_active_in_prefix=prefixes
            )
        before = torch.searchsorted(active, boundaries)
        before_rest = torch.searchsorted(active, boundaries[:-1] + prefixes)
        return cls(
            boundaries=boundaries,
            prefixes=prefixes,
            num_active=before.diff(),
            num_active_in_prefix=before_rest - before[:-1],
        )

    def runs(self) -> tuple[Run, ...]:
        """Group consecutive documents that are alike."""
        columns = (self.boundaries.diff(), self.prefixes, self.num_active, self.num_active_in_prefix)
        return tuple(
            Run(
                count=sum(1 for _ in alike),
                length=length,
                prefix=prefix,
                num_active=num_active,
                num_active_in_prefix=num_active_in_prefix,
            )
            for (length, prefix, num_active, num_active_in_prefix), alike in itertools.groupby(
                zip(*(column.tolist() for column in columns), strict=True)
            )
        )

    def key_ranges(self) -> tuple[Int[Tensor, "active"], Int[Tensor, "active"]]:
        """First key of each query, and the one after its last."""
        num_queries, first, num_keys = self._columns()
        return first.repeat_interleave(num_queries), (first + num_keys).repeat_interleave(num_queries)

    def packed(
        self,
    ) -> tuple[Int[Tensor, "segments"], Int[Tensor, "segments"], Int[Tensor, "keys"] | None]:
        """Cumulative queries and keys of each segment from 0, and which keys those are: None for all in
        order. Keys of a prefix that has queries come twice: for the prefix, and for the rest.
        """
        if not self.num_active_in_prefix.any():
            return _cumulative(self.num_active), self.boundaries, None
        columns = self._columns()
        num_queries, first, num_keys = (column[columns[0] > 0] for column in columns)
        ends = _cumulative(num_keys)
        places = torch.arange(int(ends[-1]), device=ends.device)
        keys = places + (first - ends[:-1]).repeat_interleave(num_keys)
        return _cumulative(num_queries), ends, keys

    def _columns(self) -> tuple[Int[Tensor, "segments"], Int[Tensor, "segments"], Int[Tensor, "segments"]]:
        """Queries, first key, and number of keys of every document's prefix and rest, in order."""
        rest = self.num_active - self.num_active_in_prefix
        num_queries = torch.stack([self.num_active_in_prefix, rest], 1).flatten()
        num_keys = torch.stack([self.prefixes, self.boundaries.diff()], 1).flatten()
        return num_queries, self.boundaries[:-1].repeat_interleave(2), num_keys


def _cumulative(counts: Int[Tensor, "n"]) -> Int[Tensor, "boundaries"]:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
