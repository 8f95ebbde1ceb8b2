"""lm-eval's own evaluator over the interface, with an oracle whose likelihoods are known exactly."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from text_oracle import Letters, log_p, scorer
from trimask.generation.generate import Generator
from trimask.runs import load as runs
from trimask.scorecard.evaluate import run_harness
from trimask.scorecard.score import denoiser_of, tokenizers_of

# Other people's libraries warn of themselves.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def _generator() -> Generator:
    return Generator(scorer().denoiser, text=Letters())


def _task(kind: str, rows: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
    return {
        "task": f"letters_{kind}",
        "custom_dataset": _dataset(rows),
        "test_split": "test",
        "output_type": kind,
        "num_fewshot": 0,
        **config,
    }


def _dataset(rows: list[dict[str, Any]]) -> Callable[..., Any]:
    from datasets import Dataset  # comes with lm-eval

    return lambda **options: {"test": Dataset.from_list(rows)}


def test_requests_get_exact_likelihoods() -> None:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]  (an extra)

    from trimask.evaluation.harness import HarnessModel

    model = HarnessModel(_generator(), scorer(num_masks=7))
    pairs = [("a", "bc"), ("", "c"), ("ab", "a")]

    def requests(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Instance]:
        return [Instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]

    found = model.loglikelihood(requests("loglikelihood", pairs))
    for (context, text), (value, is_greedy) in zip(pairs, found, strict=True):
        assert value == pytest.approx(log_p(context + text) - log_p(context), abs=1e-5)
        assert isinstance(is_greedy, bool)
    rolling = model.loglikelihood_rolling(requests("loglikelihood_rolling", [("abc",), ("ba",)]))
    assert rolling == pytest.approx([log_p("abc"), log_p("ba")], abs=1e-5)


def test_multiple_choice_through_the_evaluator() -> None:
    rows = [{"query": x, "choices": ["a", "b", "c"], "gold": i % 3} for i, x in enumerate("abcab")]
    task = _task(
        "multiple_choice",
        rows,
        doc_to_text="{{query}}",
        doc_to_target="gold",
        doc_to_choice="choices",
        target_delimiter="",
        metric_list=[{"metric": "acc"}],
    )
    found = run_harness(_generator(), scorer(num_masks=7), [task], limit=5, seed=0)
    best = ["abc"[max(range(3), key=lambda i: log_p(row["query"] + "abc"[i]))] for row in rows]
    expected = sum(row["choices"][row["gold"]] == letter for row, letter in zip(rows, best, strict=True)) / 5
    assert found["letters_multiple_choice"]["acc,none"] == pytest.approx(expected)


def test_perplexity_through_the_evaluator() -> None:
    rows = [{"text": text} for text in ("abc", "cab", "bb")]
    task = _task(
        "loglikelihood_rolling",
        rows,
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "byte_perplexity"}],
    )
    found = run_harness(_generator(), scorer(num_masks=7), [task], limit=3, seed=0)
    nats = -sum(log_p(row["text"]) for row in rows)
    value = found["letters_loglikelihood_rolling"]["byte_perplexity,none"]
    assert value == pytest.approx(math.exp(nats / 8), rel=1e-5)


def test_generation_stops_where_it_is_told() -> None:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]  (an extra)

    from trimask.evaluation.continuation import ContinuationScorer
    from trimask.evaluation.harness import HarnessModel

    generator = runs.load("quickstart")
    text = tokenizers_of(generator).text
    scorer = ContinuationScorer(denoiser=denoiser_of(generator), text=text, text_window=128)
    model = HarnessModel(generator, scorer)
    options = {"until": ["e"], "max_gen_toks": 24}
    request = Instance(request_type="generate_until", doc={}, arguments=("My fellow", options), idx=0)
    whole = Instance(
        request_type="generate_until", doc={}, arguments=("My fellow", {"max_gen_toks": 24}), idx=0
    )
    cut, full = model.generate_until([request, whole])
    assert "e" not in cut and full.startswith(cut) and full
    assert not full.startswith("My fellow")
