"""Score continuations of held-out passages by the shipped model, laid into a span of their own length and
into a whole text window. `python experiments/2026-11-28-continuations/run.py` writes results.json beside it.
"""

import json
import math
from pathlib import Path

from trimask.data.selection import QuickstartData
from trimask.estimate import mean, proportion
from trimask.evaluation.continuation import Choice, ContinuationScorer, choose_by_bytes
from trimask.recipes import pretrained
from trimask.recipes.scorecard import denoiser_of, tokenizers_of
from trimask.recipes.scorecard_text import choices
from trimask.recipes.tokens import SPEECHES, tokenize
from trimask.sampling.generate import Generator

WINDOW = 128
NUM_QUESTIONS = 200
NUM_MASKS = 8


def main() -> None:
    generator = pretrained.load("quickstart")
    tokenizers = tokenizers_of(generator)
    source = tokenize(QuickstartData(), tokenizers, "validation")[SPEECHES]
    questions = choices(source, tokenizers.text, window=WINDOW, count=NUM_QUESTIONS, seed=0)
    results = {
        "questions": len(questions),
        "uniform_bits": math.log2(tokenizers.text.vocabulary_size),
        "own length": scores(generator, questions, whole_window=False),
        "whole window": scores(generator, questions, whole_window=True),
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def scores(generator: Generator, questions: list[Choice], *, whole_window: bool) -> dict:
    """Bits of the true next token (exact: one target has one mask), and the share of right choices."""
    text = tokenizers_of(generator).text

    def log_likelihood(context: str, continuation: str) -> float:
        length = WINDOW if whole_window else len(text.encode(context + continuation))
        scorer = ContinuationScorer(
            denoiser=denoiser_of(generator), text=text, text_window=length, num_masks=NUM_MASKS
        )
        return scorer.log_likelihoods([(context, continuation)])[0]

    following = [(q.context, text.decode(text.encode(q.options[q.answer])[:1])) for q in questions]
    whole = [(context, token) for context, token in following if len(text.encode(token)) == 1]
    bits = [-log_likelihood(*pair) / math.log(2) for pair in whole]
    hits = choose_by_bytes(questions, [log_likelihood(q.context, o) for q in questions for o in q.options])
    return {"next_token_bits": mean(bits).as_json(), "accuracy": proportion(hits).as_json()}


if __name__ == "__main__":
    main()
