"""The oracle behind the sampler's interface: a predictor that is exactly right."""

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
