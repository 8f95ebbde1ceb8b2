"""A text model that is exactly right for what training shows it: spans closed by end tokens, behind the
denoiser's interface.
"""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oracle import Oracle
from trimask.data.stream import SpanSlack
from trimask.evaluation.continuation import ContinuationScorer
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary

WINDOW = 3
_LETTERS, _END = 3, 3
_LONGEST = 5
_SLACK = SpanSlack(minimum=2, fraction=0.0)
_GRID = (np.arange(60) + 0.5) / 60  # uniforms that hit each number of ends equally often
VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=_LETTERS, has_end=True),
        CodeSpace(name="image", num_codebooks=1, codebook_size=2, has_end=False, grid=(1, 1)),
        CodeSpace(name="speech", num_codebooks=1, codebook_size=2, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Parallel()},
)
_TEXT, _SPACE = VOCABULARY.task("text"), VOCABULARY.space("text")


@cache
def _passages() -> dict[tuple[int, ...], float]:
    """Probability of each passage of one to five letters."""
    texts = [text for n in range(1, _LONGEST + 1) for text in itertools.product(range(_LETTERS), repeat=n)]
    weights = np.exp(np.random.default_rng(4).normal(size=len(texts)) * 1.5 - [len(text) for text in texts])
    return dict(zip(texts, (weights / weights.sum()).tolist(), strict=True))


@cache
def oracle(span: int) -> Oracle:
    """What stands in a text span of `span` tokens, given its length: cut and closed by the rule of training.

    A passage that fills the window is cut there, and carries no end; a shorter one is closed by one end token
    or more.
    """
    table: dict[tuple[int, ...], float] = {}
    for text, probability in _passages().items():
        content = text[:WINDOW]
        for uniform in _GRID:
            ends = _SLACK.num_end(_TEXT, _SPACE, len(content), float(uniform), text_window=WINDOW)
            tokens = (*content, *[_END] * ends)
            if len(tokens) == span:
                table[tokens] = table.get(tokens, 0.0) + probability / len(_GRID)
    probability = torch.tensor(list(table.values()), dtype=torch.float64)
    return Oracle(
        vocabulary_size=_LETTERS + 1,
        length=span,
        sequences=torch.tensor(list(table)),
        probability=probability / probability.sum(),
    )


ORACLE = oracle(WINDOW)


class Letters:
    """a, b, c: one id each."""

    vocabulary_size = _LETTERS

    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]:
        return ["abc".index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join("abc"[i] for i in ids)


class OracleDenoiser(Denoiser):
    """The conditionals of a span of the length that is given, as logits."""

    def forward(self, tokens: Tensor, batch: Batch) -> Tensor:
        (text,) = self.vocabulary.ranges_of("text")
        found = torch.full((batch.num_positions, _LETTERS + 1), -math.inf, dtype=torch.float64)
        for row in range(len(tokens)):
            slots = (batch.range_index[row] == text.index).nonzero()[:, 0]
            exact = oracle(len(slots))
            ids = tokens[row, slots] - text.start
            ids[tokens[row, slots] == self.vocabulary.mask("text")] = exact.mask_id
            found[batch.position[row, slots]] = exact.log_probabilities(ids[None])[0]
        return found

    def logits(self, hidden: Tensor, range_index: int) -> Tensor:
        return hidden


def scorer(**changes: Any) -> ContinuationScorer:
    denoiser = OracleDenoiser(DenoiserConfig(width=4, depth=1, num_heads=1), VOCABULARY)
    return ContinuationScorer(denoiser=denoiser, text=Letters(), **({"text_window": WINDOW} | changes))


def log_p(text: str) -> float:
    """ln of the probability that a window begins with `text`."""
    ids = torch.tensor(Letters().encode(text), dtype=torch.int64)
    begins = (ORACLE.sequences[:, : len(ids)] == ids).all(1)
    return float(ORACLE.probability[begins].sum().log())
