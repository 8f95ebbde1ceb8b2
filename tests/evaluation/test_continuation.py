"""Scores of continuations against the exact probabilities of an oracle whose joint table is known."""

import math

import numpy as np
import pytest
import torch

from text_oracle import ORACLE, Letters, log_p, scorer
from trimask.evaluation.continuation import Choice, choose_by_bytes


@pytest.mark.parametrize(
    ("context", "continuation"), [("", "abc"), ("a", "cb"), ("ab", "c"), ("", "b"), ("c", "a")]
)
def test_the_bound_is_tight_for_consistent_conditionals(context: str, continuation: str) -> None:
    # All orders of an exact model give the same product, and up to three tokens all masks are enumerated.
    (found,) = scorer(num_masks=7).log_likelihoods([(context, continuation)])
    assert found == pytest.approx(log_p(context + continuation) - log_p(context), abs=1e-5)


def test_options_of_a_context_add_up_to_one() -> None:
    pairs = [("b", x + y) for x in "abc" for y in "abc"]
    assert sum(map(math.exp, scorer(num_masks=3).log_likelihoods(pairs))) == pytest.approx(1, abs=1e-5)


def test_whole_texts() -> None:
    found = scorer(num_masks=7).text_log_likelihoods(["abc", "", "ba"])
    assert found == pytest.approx([log_p("abc"), 0.0, log_p("ba")], abs=1e-5)
    # Longer than the window: parts, each after nothing.
    (parts,) = scorer(num_masks=7, max_length=2).text_log_likelihoods(["abc"])
    assert parts == pytest.approx(log_p("ab") + log_p("c"), abs=1e-5)


def test_a_long_context_loses_its_start() -> None:
    (found,) = scorer(num_masks=7, max_length=2).log_likelihoods([("cab", "b")])
    assert found == pytest.approx(log_p("bb") - log_p("b"), abs=1e-5)


def test_estimates_are_unbiased_where_masks_are_drawn() -> None:
    # Two masks of three tokens: the mean over many copies, each with masks of its own.
    values = scorer(num_masks=2).log_likelihoods([("", "acb")] * 100)
    assert np.mean(values) == pytest.approx(log_p("acb"), abs=4 * np.std(values) / 10)


def test_greedy_is_the_surest_first() -> None:
    z = torch.full((1, 3), ORACLE.mask_id)
    while (z == ORACLE.mask_id).any():
        found = ORACLE.log_probabilities(z)[0].masked_fill((z[0] != ORACLE.mask_id)[:, None], -math.inf)
        place, code = divmod(int(found.argmax()), 3)
        z[0, place] = code
    greedy = Letters().decode(z[0].tolist())
    exact = scorer()
    answers = {text: exact.is_greedy("", text) for text in (greedy, greedy[::-1] + "", "abc", "cba")}
    assert answers[greedy]
    assert [text for text, is_greedy in answers.items() if is_greedy] == [greedy]


def test_an_empty_continuation_is_refused() -> None:
    with pytest.raises(ValueError, match="continuation is empty"):
        scorer().log_likelihoods([("a", "")])


def test_choices_by_bytes() -> None:
    choices = [
        Choice(context="", options=("long one", "x"), answer=0),
        Choice(context="", options=("ab", "cd"), answer=1),
        Choice(context="", options=("ab", "cd"), answer=0),
    ]
    # -8/8 bytes beats -2/1 byte; -1 < -3; a tie is wrong.
    assert choose_by_bytes(choices, [-8.0, -2.0, -3.0, -1.0, -1.0, -1.0]) == [True, True, False]
