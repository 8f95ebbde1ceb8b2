"""Scores of continuations against the exact probabilities of an oracle whose joint table is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from text_oracle import ORACLE, Letters, log_p, oracle, scorer
from trimask.evaluation import continuation
from trimask.evaluation.continuation import Choice, choose_by_bytes
from trimask.evaluation.likelihood import MaskStream, draw_views, sequence_nelbo


@pytest.mark.parametrize(
    ("context", "continuation"), [("", "abc"), ("a", "cb"), ("ab", "c"), ("", "b"), ("c", "a")]
)
def test_the_bound_is_tight_for_consistent_conditionals(context: str, continuation: str) -> None:
    # All orders of an exact model give the same product, and up to three tokens all masks are enumerated.
    (found,) = scorer(num_masks=7).log_likelihoods([(context, continuation)])
    assert found == pytest.approx(log_p(context + continuation) - log_p(context), abs=1e-5)


def test_the_oracle_closes_short_passages_as_training_does() -> None:
    # A span below the window ends with an end token: laid into it, no continuation could be told.
    assert (oracle(2).sequences[:, -1] == 3).all() and (ORACLE.sequences[:, -1] == 3).any()
    short = ORACLE.sequences[ORACLE.sequences[:, 1] == 3]
    assert (short[:, 2] == 3).all() and len(short)


def test_continuations_that_go_on_and_ends_add_up_to_one() -> None:
    found = scorer(num_masks=3).log_likelihoods([("b", x + y) for x in "abc" for y in "abc"])
    begins = ORACLE.sequences[:, 0] == 1
    ends = begins & (ORACLE.sequences == 3).any(1)
    ended = float(ORACLE.probability[ends].sum() / ORACLE.probability[begins].sum())
    assert 0.01 < ended < 0.99
    assert sum(map(math.exp, found)) == pytest.approx(1 - ended, abs=1e-5)


def test_whole_texts() -> None:
    found = scorer(num_masks=7).text_log_likelihoods(["abc", "", "ba"])
    assert found == pytest.approx([log_p("abc"), 0.0, log_p("ba")], abs=1e-5)
    # Longer than the window: parts, each after nothing and before the unknown.
    (parts,) = scorer(num_masks=7).text_log_likelihoods(["abcc"])
    assert parts == pytest.approx(log_p("abc") + log_p("c"), abs=1e-5)


def test_a_long_context_loses_its_start() -> None:
    (found,) = scorer(num_masks=7).log_likelihoods([("cab", "b")])
    assert found == pytest.approx(log_p("abb") - log_p("ab"), abs=1e-5)


def test_estimates_are_unbiased_where_masks_are_drawn() -> None:
    # Two masks of three tokens: the mean over many seeds.
    values = [scorer(num_masks=2, seed=seed).log_likelihoods([("", "acb")])[0] for seed in range(100)]
    assert np.std(values) > 0.01
    assert np.mean(values) == pytest.approx(log_p("acb"), abs=float(4 * np.std(values) / 10))


@given(order=st.permutations(range(5)), batch_size=st.integers(1, 7))
def test_a_request_scores_the_same_wherever_it_stands(order: list[int], batch_size: int) -> None:
    pairs = [("", "acb"), ("", "abc"), ("a", "cb"), ("", "a"), ("", "ccc")]
    alone = [scorer(num_masks=2).log_likelihoods([pair])[0] for pair in pairs]
    found = scorer(num_masks=2, batch_size=batch_size).log_likelihoods([pairs[i] for i in order])
    assert found == pytest.approx([alone[i] for i in order], abs=1e-9)
    texts = scorer(num_masks=2, batch_size=batch_size).text_log_likelihoods(["abcab", "acb"])
    assert texts[1] == pytest.approx(alone[0], abs=1e-9)


def test_options_share_masks() -> None:
    streams = []

    def spy(denoiser: Any, sequences: Any, **options: Any):
        streams.extend(options["streams"])
        return sequence_nelbo(denoiser, sequences, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continuation, "sequence_nelbo", spy)
        scorer().log_likelihoods([("a", "b"), ("a", "bc"), ("b", "c")])
    assert streams[0] == streams[1] != streams[2]


@pytest.mark.parametrize("key", range(20))
def test_masks_of_a_shared_stream_are_nested(key: int) -> None:
    # One mask is the first places of the stream's order: of the shorter continuation, those that it has.
    stream = MaskStream(key=key, num_places=40)
    (long,), (short,) = (draw_views(n, 1, 0, stream) for n in (30, 24))
    both = long.is_masked[:24] & short.is_masked
    assert both.sum() == min(long.is_masked[:24].sum(), short.is_masked.sum())


def test_greedy_is_the_surest_first() -> None:
    z = torch.full((1, 3), ORACLE.mask_id)
    while (z == ORACLE.mask_id).any():
        found = ORACLE.log_probabilities(z)[0].masked_fill((z[0] != ORACLE.mask_id)[:, None], -math.inf)
        place, code = divmod(int(found.argmax()), 4)
        z[0, place] = code
    assert (z[0] < 3).all()  # of this table, the surest window has no end
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
