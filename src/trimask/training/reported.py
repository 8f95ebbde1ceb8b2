"""The bounds that training reports: each token belongs to at most one.

A sequence with a dropped condition bounds another quantity than its task, and is left out. If a sequence
generates several modalities together, only their sum is a bound.
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
    """The bounds of a mixture of `tasks`, on the host: one per generated modality, or per task with several.

    Attributes:
        names: names of the bounds, in index order.
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
        """Return the index of each target slot's bound; −1 for none."""
        is_unconditional = corruption.is_dropped(batch) & self._has_condition[batch.task]
        of_sequence = torch.where(is_unconditional, -1, self._of_task[batch.task])
        return torch.where(batch.maskable, of_sequence[batch.sequence.clamp(min=0)], -1)
