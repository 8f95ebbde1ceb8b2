"""Sequences in rows: the form in which the model, the loss and the sampler receive data.

Text is packed (several documents a row); pairs are padded to the row length [P]. Rows give fixed shapes; the
model computes on documents, whose positions are numbered across the batch without padding, with boundaries
`cu_positions`. So nothing can attend to padding or across documents.
"""

from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.vocabulary.sequence import Sequence


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Rows of documents.

    Attributes:
        tokens: clean token ids; `pad` (0) at padding.
        range_index: codebook range of each slot, -1 for special tokens and padding.
        maskable: target slots.
        is_condition: condition slots.
        sequence: document number of each slot, counted through the batch; -1 at padding.
        position: transformer position of each slot, counted through the batch; -1 at padding.
        task: number of each document's task, in the vocabulary.
        sample_index: global index of each document; identifies its random streams.
        cu_positions: document boundaries in positions, from 0 to the number of positions.
        coordinates: rotary coordinates of each position.
        prefix_length: positions at the start of each document that its conditions take; see `Sequence`.
        update_sample_index, update_task: `sample_index` and `task` of all documents of the update that
            contains this batch, in any order; the batch's own if it is the whole update.
    """

    tokens: Int[Tensor, "rows slots"]
    range_index: Int[Tensor, "rows slots"]
    maskable: Bool[Tensor, "rows slots"]
    is_condition: Bool[Tensor, "rows slots"]
    sequence: Int[Tensor, "rows slots"]
    position: Int[Tensor, "rows slots"]
    task: Int[Tensor, "sequences"]
    sample_index: Int[Tensor, "sequences"]
    cu_positions: Int[Tensor, "boundaries"]
    coordinates: Float[Tensor, "positions 2"]
    prefix_length: Int[Tensor, "sequences"]
    update_sample_index: Int[Tensor, "update"]
    update_task: Int[Tensor, "update"]

    @property
    def num_sequences(self) -> int:
        return len(self.sample_index)

    @property
    def num_positions(self) -> int:
        return len(self.coordinates)

    def positions_after_prefix(self) -> Int[Tensor, "rest"]:
        """Return the positions after each document's prefix, in order: all that depend on the targets, if
        conditions attend to themselves alone.
        """
        starts = (self.cu_positions[:-1] + self.prefix_length).repeat_interleave(self.cu_positions.diff())
        return (torch.arange(self.num_positions, device=starts.device) >= starts).nonzero()[:, 0]

    def rows(self, rows: slice | Int[Tensor, "some"]) -> "Batch":
        """Return the documents of some rows, in ascending order, as a batch; renumbered."""
        position, sequence = self.position[rows], self.sequence[rows]
        real = sequence >= 0
        kept = sequence[real].unique()
        lengths = self.cu_positions.diff()[kept]
        boundaries = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = boundaries[:-1] - self.cu_positions[kept]
        number = kept.new_zeros(self.num_sequences)
        number[kept] = torch.arange(len(kept), device=kept.device)
        renumbered = number[sequence.clamp(min=0)]
        old_position = torch.arange(int(boundaries[-1]), device=kept.device) - shift.repeat_interleave(
            lengths
        )
        return Batch(
            tokens=self.tokens[rows],
            range_index=self.range_index[rows],
            maskable=self.maskable[rows],
            is_condition=self.is_condition[rows],
            sequence=torch.where(real, renumbered, -1),
            position=torch.where(real, position + shift[renumbered], -1),
            task=self.task[kept],
            sample_index=self.sample_index[kept],
            cu_positions=boundaries,
            coordinates=self.coordinates[old_position],
            prefix_length=self.prefix_length[kept],
            update_sample_index=self.update_sample_index,
            update_task=self.update_task,
        )

    def to(self, device: torch.device) -> "Batch":
        return replace(
            self, **{name: getattr(self, name).to(device, non_blocking=True) for name in self.__slots__}
        )

    def describe(self) -> str:
        """Describe the batch's samples, for messages."""
        indices = self.sample_index.tolist()
        return f"samples {indices[0]}…{indices[-1]}" if len(indices) > 1 else f"sample {indices[0]}"


def pack_rows(sequences: Rows[Sequence], row_length: int) -> list[list[int]]:
    """Assign sequences to rows: sequences of one span (text) share rows (first fit, in order), any other has
    its own.

    Raises:
        UserError: a sequence is longer than `row_length` slots.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number, sequence in enumerate(sequences):
        if sequence.num_slots > row_length:
            raise UserError(
                f"a {sequence.task.name} sequence of {sequence.num_slots} slots does not fit a row of "
                f"{row_length}: raise row_length or shorten the example"
            )
        is_packed = sequence.task.is_alone
        fits = (row for row, left in enumerate(room) if is_packed and sequence.num_slots <= left)
        row = next(fits, len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_length if is_packed else 0)
        rows[row].append(number)
        room[row] -= sequence.num_slots
    return rows


def make_batch(
    sequences: Rows[Sequence],
    sample_index: Rows[int],
    *,
    row_length: int | None = None,
    update: Rows[tuple[int, int]] | None = None,
) -> Batch:
    """Lay `sequences` into rows of `row_length` slots; by default one sequence per row of the longest's
    length. `update`: sample index and task number of all sequences of the update, if these are a part of it.

    Raises:
        UserError: no sequences, or one that does not fit.
    """
    if not sequences:
        raise UserError("a batch needs at least one sequence")
    if row_length is None:
        row_length = max(sequence.num_slots for sequence in sequences)
        rows = [[number] for number in range(len(sequences))]
    else:
        rows = pack_rows(sequences, row_length)
    lengths = np.array([sequence.num_positions for sequence in sequences])
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    shape = (len(rows), row_length)
    arrays = {name: np.full(shape, -1, dtype=np.int64) for name in ("range_index", "sequence", "position")}
    arrays["tokens"] = np.zeros(shape, dtype=np.int64)
    arrays |= {name: np.zeros(shape, dtype=bool) for name in ("maskable", "is_condition")}
    for row, numbers in enumerate(rows):
        start = 0
        for number in numbers:
            sequence = sequences[number]
            slots = (row, slice(start, start + sequence.num_slots))
            for name in ("tokens", "range_index", "maskable", "is_condition"):
                arrays[name][slots] = getattr(sequence, name)
            arrays["position"][slots] = sequence.position + boundaries[number]
            arrays["sequence"][slots] = number
            start += sequence.num_slots
    members = list(zip(sample_index, (sequence.task_number for sequence in sequences), strict=True))
    own, all_of_update = _members(members), _members(members if update is None else update)
    return Batch(
        **{name: torch.from_numpy(array) for name, array in arrays.items()},
        sample_index=own[0],
        task=own[1],
        update_sample_index=all_of_update[0],
        update_task=all_of_update[1],
        cu_positions=torch.from_numpy(boundaries.astype(np.int64)),
        coordinates=torch.from_numpy(np.concatenate([sequence.coordinates for sequence in sequences])),
        prefix_length=torch.tensor([sequence.prefix_length for sequence in sequences]),
    )


def _members(members: Rows[tuple[int, int]]) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    indices, tasks = zip(*members, strict=True)
    return torch.tensor(indices), torch.tensor(tasks)
