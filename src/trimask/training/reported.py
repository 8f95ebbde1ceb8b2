"""Which bounds training reports: a token is part of one of them, or of none.

A sequence whose condition was dropped bounds something else than its task, and is left out. Of a sequence
that generates several modalities together only the sum over them is a bound.
"""

from collections.abc import Collection
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from trimask.training.corruption import Corruption
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import Vocabulary


@final
class ReportedBounds:
    """The bounds of a mixture of `tasks`, on the host: by the modality that a task generates, or by the task.

    Attributes:
        names: of the bounds, in the order of their numbers.
    """

    def __init__(self, tasks: Collection[str], vocabulary: Vocabulary) -> None:
        rows = vocabulary.tasks
        by_task = {row.name: row.target or row.name for row in rows}
        reported = {by_task[task] for task in tasks}
        names = dict.fromkeys([*vocabulary.modalities, *by_task])
        self.names = tuple(name for name in names if name in reported)
        self._of_task = torch.tensor(
            [self.names.index(by_task[row.name]) if row.name in tasks else -1 for row in rows]
        )
        self._has_condition = torch.tensor([bool(row.condition) for row in rows])

    def of_slots(self, batch: Batch, corruption: Corruption) -> Int[Tensor, "rows slots"]:
        """The number of the bound that each slot is part of, if it is a target; −1 for none of them."""
        is_unconditional = corruption.is_dropped(batch) & self._has_condition[batch.task]
        of_sequence = torch.where(is_unconditional, -1, self._of_task[batch.task])
        return torch.where(batch.maskable, of_sequence[batch.sequence.clamp(min=0)], -1)
