"""lm-eval's model interface over a masked diffusion model: `lm_eval.simple_evaluate(model=HarnessModel(…))`.

Imports lm-eval (extra `eval`): import this module only where it is needed.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]  (an extra)

from trimask.evaluation.continuation import ContinuationScorer
from trimask.generation.generate import Generator

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]  (an extra)

_CHUNK = 64  # requests scored at a time
_DEFAULT_STEPS = 64


@final
class HarnessModel(LM):
    """A trained model with lm-eval's interface.

    **Log-likelihoods are bounds.** A masked diffusion model has no left-to-right factorization; the methods
    return -NELBO ≤ log p, so perplexities are upper bounds, and accuracies compare the bounds of the options
    (as for LLaDA and MDLM). Do not compare these numbers with those of an autoregressive model as if they
    were the same quantity. `is_greedy` refers to unmasking in order of confidence
    (`ContinuationScorer.is_greedy`). `generate_until` fills the text window after the prompt with the
    model's own sampler of text, and cuts at the first stop string and at `max_gen_toks`.
    """

    def __init__(self, generator: Generator, scorer: ContinuationScorer) -> None:
        super().__init__()
        self.generator = generator
        self.scorer = scorer

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval stores beside its results: how the likelihoods are to be read."""
        return {
            "likelihoods": "lower bounds (-NELBO) of log-likelihoods",
            "num_masks": self.scorer.num_masks,
            "text_window": self.scorer.text_window,
        }

    def loglikelihood(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Compute (−NELBO in nats, is greedy) of each (context, continuation)."""
        pairs: list[Any] = [request.args for request in requests]
        found: list[float] = []
        for start in range(0, len(pairs), _CHUNK):
            found += self.scorer.log_likelihoods(pairs[start : start + _CHUNK])
        return [(value, self.scorer.is_greedy(*pair)) for value, pair in zip(found, pairs, strict=True)]

    def loglikelihood_rolling(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[float]:
        """Compute -NELBO of each whole text in nats, in parts of the scorer's `text_window`."""
        return self.scorer.text_log_likelihoods([request.args[0] for request in requests])

    def generate_until(self, requests: "Sequence[Instance]", disable_tqdm: bool = False) -> list[str]:
        """Generate text after each context, up to the first of the stop strings."""
        return [self._generate(*request.args) for request in requests]

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        stops = options.get("until") or []
        stops = [stops] if isinstance(stops, str) else stops
        window = self.scorer.text_window
        room = window // 2
        wanted = min(int(options.get("max_gen_toks", room)), room)
        text = self.scorer.text
        kept = text.encode(context)[-(window - wanted) :]
        prompt = text.decode(kept)
        temperature = options.get("temperature") if options.get("do_sample") else 0.0
        has_steps = self.generator.settings("text").count.has_steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spans that do not end are cut anyway
            (made,) = self.generator.generate_many(
                "text",
                prompt or None,
                # The full window: in a shorter span the model would end the text at the end of the span.
                span_length=window,
                num_steps=min(_DEFAULT_STEPS, window - len(kept)) if has_steps else None,
                temperature=temperature,
                seed=self.scorer.seed,
            )
        answer = (made.text or "").removeprefix(prompt)
        answer = text.decode(text.encode(answer)[:wanted])
        cuts = [answer.index(stop) for stop in stops if stop and stop in answer]
        return answer[: min(cuts)] if cuts else answer
