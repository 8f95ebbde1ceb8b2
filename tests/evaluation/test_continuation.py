"""Scores of continuations against the exact probabilities of an oracle whose joint table is known."""

import math

import numpy as np
import pytest
import torch

from oracle import Oracle
from trimask.evaluation.continuation import Choice, ContinuationScorer, choose_by_bytes
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.modality import Modality

_ORACLE = Oracle.random(vocabulary_size=3, length=3, seed=4)
_VOCABULARY = Vocabulary(
    text=CodeSpace(num_codebooks=1, codebook_size=3, has_end=True),
    image=CodeSpace(num_codebooks=1, codebook_size=2, has_end=False, grid=(1, 1), layout=Parallel()),
    audio=CodeSpace(num_codebooks=1, codebook_size=2, has_end=True, layout=Parallel()),
)


class _Letters:
    """a, b, c: one id each."""

    vocabulary_size = 3

    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]:
        return ["abc".index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join("abc"[i] for i in ids)


class _OracleDenoiser(Denoiser):
    """The oracle's conditionals as logits; shorter texts are marginals: what follows them is masked."""

    def forward(self, tokens, batch):
        (text,) = self.vocabulary.ranges_of(Modality.TEXT)
        log_p = torch.full((batch.num_positions, 4), -math.inf, dtype=torch.float64)
        for row in range(len(tokens)):
            slots = (batch.range_index[row] == text.index).nonzero()[:, 0]
            ids = tokens[row, slots] - text.start
            ids[tokens[row, slots] == self.vocabulary.mask(Modality.TEXT)] = _ORACLE.mask_id
            padded = torch.cat([ids, torch.full((3 - len(ids),), _ORACLE.mask_id)])
            log_p[batch.position[row, slots], :3] = _ORACLE.log_probabilities(padded[None])[0, : len(ids)]
        return log_p

    def logits(self, hidden, range_index):
        return hidden


def _scorer(**changes) -> ContinuationScorer:
    denoiser = _OracleDenoiser(DenoiserConfig(width=4, depth=1, num_heads=1), _VOCABULARY)
    return ContinuationScorer(denoiser=denoiser, text=_Letters(), **({"max_length": 3} | changes))


def _log_p(text: str) -> float:
    """ln of the marginal probability that a sequence begins with `text`."""
    ids = torch.tensor(_Letters().encode(text), dtype=torch.int64)
    begins = (_ORACLE.sequences[:, : len(ids)] == ids).all(1)
    return float(_ORACLE.probability[begins].sum().log())


@pytest.mark.parametrize(
    ("context", "continuation"), [("", "abc"), ("a", "cb"), ("ab", "c"), ("", "b"), ("c", "a")]
)
def test_the_bound_is_tight_for_consistent_conditionals(context: str, continuation: str) -> None:
    # All orders of an exact model give the same product, and up to three tokens all masks are enumerated.
    (found,) = _scorer(num_masks=7).log_likelihoods([(context, continuation)])
    assert found == pytest.approx(_log_p(context + continuation) - _log_p(context), abs=1e-5)


def test_options_of_a_context_add_up_to_one() -> None:
    pairs = [("b", x + y) for x in "abc" for y in "abc"]
    assert sum(map(math.exp, _scorer(num_masks=3).log_likelihoods(pairs))) == pytest.approx(1, abs=1e-5)


def test_whole_texts() -> None:
    found = _scorer(num_masks=7).text_log_likelihoods(["abc", "", "ba"])
    assert found == pytest.approx([_log_p("abc"), 0.0, _log_p("ba")], abs=1e-5)
    # Longer than the window: parts, each after nothing.
    (parts,) = _scorer(num_masks=7, max_length=2).text_log_likelihoods(["abc"])
    assert parts == pytest.approx(_log_p("ab") + _log_p("c"), abs=1e-5)


def test_a_long_context_loses_its_start() -> None:
    (found,) = _scorer(num_masks=7, max_length=2).log_likelihoods([("cab", "b")])
    assert found == pytest.approx(_log_p("bb") - _log_p("b"), abs=1e-5)


def test_estimates_are_unbiased_where_masks_are_drawn() -> None:
    # Two masks of three tokens: the mean over many copies, each with masks of its own.
    values = _scorer(num_masks=2).log_likelihoods([("", "acb")] * 400)
    assert np.mean(values) == pytest.approx(_log_p("acb"), abs=4 * np.std(values) / 20)


def test_greedy_is_the_surest_first() -> None:
    z = torch.full((1, 3), _ORACLE.mask_id)
    while (z == _ORACLE.mask_id).any():
        log_p = _ORACLE.log_probabilities(z)[0].masked_fill((z[0] != _ORACLE.mask_id)[:, None], -math.inf)
        place, code = divmod(int(log_p.argmax()), 3)
        z[0, place] = code
    greedy = _Letters().decode(z[0].tolist())
    scorer = _scorer()
    answers = {text: scorer.is_greedy("", text) for text in (greedy, greedy[::-1] + "", "abc", "cba")}
    assert answers[greedy]
    assert [text for text, is_greedy in answers.items() if is_greedy] == [greedy]


def test_an_empty_continuation_is_refused() -> None:
    with pytest.raises(ValueError, match="continuation is empty"):
        _scorer().log_likelihoods([("a", "")])


def test_choices_by_bytes() -> None:
    choices = [
        Choice(context="", options=("long one", "x"), answer=0),
        Choice(context="", options=("ab", "cd"), answer=1),
        Choice(context="", options=("ab", "cd"), answer=0),
    ]
    # -8/8 bytes beats -2/1 byte; -1 < -3; a tie is wrong.
    assert choose_by_bytes(choices, [-8.0, -2.0, -3.0, -1.0, -1.0, -1.0]) == [True, True, False]
