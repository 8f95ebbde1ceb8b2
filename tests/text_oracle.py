"""A text model that is exactly right: the oracle's conditionals behind the denoiser's interface."""

import math
from typing import Any

import torch

from oracle import Oracle
from trimask.evaluation.continuation import ContinuationScorer
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.modality import Modality

ORACLE = Oracle.random(vocabulary_size=3, length=3, seed=4)
VOCABULARY = Vocabulary(
    text=CodeSpace(num_codebooks=1, codebook_size=3, has_end=True),
    image=CodeSpace(num_codebooks=1, codebook_size=2, has_end=False, grid=(1, 1), layout=Parallel()),
    audio=CodeSpace(num_codebooks=1, codebook_size=2, has_end=True, layout=Parallel()),
)


class Letters:
    """a, b, c: one id each."""

    vocabulary_size = 3

    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]:
        return ["abc".index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join("abc"[i] for i in ids)


class OracleDenoiser(Denoiser):
    """The oracle's conditionals as logits; shorter texts are marginals: what follows them is masked."""

    def forward(self, tokens, batch):
        (text,) = self.vocabulary.ranges_of(Modality.TEXT)
        found = torch.full((batch.num_positions, 4), -math.inf, dtype=torch.float64)
        for row in range(len(tokens)):
            slots = (batch.range_index[row] == text.index).nonzero()[:, 0]
            ids = tokens[row, slots] - text.start
            ids[tokens[row, slots] == self.vocabulary.mask(Modality.TEXT)] = ORACLE.mask_id
            padded = torch.cat([ids, torch.full((3 - len(ids),), ORACLE.mask_id)])
            found[batch.position[row, slots], :3] = ORACLE.log_probabilities(padded[None])[0, : len(ids)]
        return found

    def logits(self, hidden, range_index):
        return hidden


def scorer(**changes: Any) -> ContinuationScorer:
    denoiser = OracleDenoiser(DenoiserConfig(width=4, depth=1, num_heads=1), VOCABULARY)
    return ContinuationScorer(denoiser=denoiser, text=Letters(), **({"max_length": 3} | changes))


def log_p(text: str) -> float:
    """ln of the marginal probability that a sequence begins with `text`."""
    ids = torch.tensor(Letters().encode(text), dtype=torch.int64)
    begins = (ORACLE.sequences[:, : len(ids)] == ids).all(1)
    return float(ORACLE.probability[begins].sum().log())
