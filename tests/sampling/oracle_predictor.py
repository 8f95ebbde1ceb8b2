"""The oracle behind the sampler's interface: a predictor that is exactly right."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from oracle import Oracle
from trimask.sampling.predictor import Prediction
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.task import Task


class OraclePredictor:
    """The exact conditionals of a small joint table over the target slots, in their order.

    The slots are a line, a picture of `grid` cells, or frames of several codebooks. With `leaves_one_out`,
    the prediction at a revealed slot is that given the others; else it is certain of the code that it sees.
    """

    def __init__(
        self,
        oracle: Oracle,
        *,
        grid: tuple[int, int] | None = None,
        num_codebooks: int = 1,
        leaves_one_out: bool = False,
    ) -> None:
        self.oracle, self.leaves_one_out = oracle, leaves_one_out
        self.num_codebooks = num_codebooks
        space = CodeSpace(
            name="made",
            num_codebooks=num_codebooks,
            codebook_size=oracle.vocabulary_size,
            has_end=False,
            grid=grid,
        )
        self.vocabulary = Vocabulary(spaces=(space,), tasks=(Task(name="make", spans=(("made",),)),))
        self.device = torch.device("cpu")

    def document(self, codes: Int[np.ndarray, "n"] | None = None) -> Sequence:
        """A sequence of these codes, to be filled or scored."""
        codes = np.zeros(self.oracle.length, dtype=np.int64) if codes is None else codes
        return build_sequence(self.vocabulary, "make", {"made": codes.reshape(-1, self.num_codebooks)})

    def codes(self, tokens: Tensor, is_target: Tensor) -> Tensor:
        """The target's codes, with the oracle's mask id where they are masked."""
        span = tokens[is_target].view(len(tokens), -1)
        start = torch.tensor([r.start for r in self.vocabulary.ranges]).repeat(
            self.oracle.length // self.num_codebooks
        )
        return torch.where(span == self.vocabulary.mask("made"), self.oracle.mask_id, span - start)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        full = torch.zeros(*z.shape, self.oracle.vocabulary_size, dtype=torch.float64)
        codes = self.codes(z, batch.maskable)
        log_p = self.oracle.log_probabilities(codes)
        for slot in range(self.oracle.length if self.leaves_one_out else 0):
            others = codes.clone()
            others[:, slot] = self.oracle.mask_id
            log_p[:, slot] = self.oracle.log_probabilities(others)[:, slot]
        full[batch.maskable] = log_p.flatten(0, 1)
        return lambda slots, range_index: full.flatten(0, 1)[slots]


Label = tuple[int, ...] | None
"""The codes of a condition; None where it is dropped."""


class ConditionalPredictor:
    """The exact conditionals of a joint table for each combination of conditions, of any lengths."""

    def __init__(self, tables: Mapping[tuple[Label, ...], Oracle]) -> None:
        self.tables = tables
        self.oracle = next(iter(tables.values()))
        self.names = tuple(f"label{number}" for number in range(len(next(iter(tables)))))
        labels = [CodeSpace(name=n, num_codebooks=1, codebook_size=2, has_end=False) for n in self.names]
        made = CodeSpace(
            name="made", num_codebooks=1, codebook_size=self.oracle.vocabulary_size, has_end=False
        )
        task = Task(name="make", spans=((*self.names, "made"),), condition=self.names)
        self.vocabulary = Vocabulary(spaces=(*labels, made), tasks=(task,))
        self.device = torch.device("cpu")

    def document(self, *labels: tuple[int, ...], codes: np.ndarray | None = None) -> Sequence:
        """A sequence under these conditions."""
        codes = np.zeros(self.oracle.length, dtype=np.int64) if codes is None else codes
        given = {name: np.array(label)[:, None] for name, label in zip(self.names, labels, strict=True)}
        return build_sequence(self.vocabulary, "make", {**given, "made": codes[:, None]})

    def codes(self, tokens: Tensor, is_target: Tensor) -> Tensor:
        """The target's codes, with the oracle's mask id where they are masked."""
        span = tokens[is_target].view(len(tokens), -1)
        start = self.vocabulary.ranges_of("made")[0].start
        return torch.where(span == self.vocabulary.mask("made"), self.oracle.mask_id, span - start)

    def labels(self, z: Tensor, batch: Batch, row: int) -> tuple[Label, ...]:
        """The conditions of a row."""
        found: list[Label] = []
        for name in self.names:
            (token_range,) = self.vocabulary.ranges_of(name)
            tokens = z[row][batch.range_index[row] == token_range.index]
            is_dropped = bool((tokens == self.vocabulary.mask(name)).any())
            found.append(None if is_dropped else tuple((tokens - token_range.start).tolist()))
        return tuple(found)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        full = torch.zeros(*z.shape, self.oracle.vocabulary_size, dtype=torch.float64)
        codes = self.codes(z, batch.maskable)
        rows: dict[tuple[Label, ...], list[int]] = {}
        for row in range(len(z)):
            rows.setdefault(self.labels(z, batch, row), []).append(row)
        for labels, several in rows.items():
            log_p = self.tables[labels].log_probabilities(codes[several])
            for place, row in enumerate(several):
                full[row, batch.maskable[row]] = log_p[place]
        return lambda slots, range_index: full.flatten(0, 1)[slots]
