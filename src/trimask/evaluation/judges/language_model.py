"""Generative perplexity: an outside language model's perplexity of generated text.

Low values alone are not evidence of quality, since repetitive text is easy to predict. Read it together with
the entropy and the share of distinct n-grams, which the scorecard reports too.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float

from trimask.errors import UserError
from trimask.estimate import Estimate, ratio
from trimask.evaluation.judges.hub import check_hub, import_transformers
from trimask.evaluation.judges.pinned import check
from trimask.evaluation.judges.weights import pinned_name


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageJudge:
    """A frozen autoregressive language model.

    `source` is a folder with a GGUF file (needs gguf), or a name or folder for transformers.
    """

    source: str

    @property
    def name(self) -> str:
        return "SmolLM2-135M-Instruct" if pinned_name(self.source) == "smollm2" else Path(self.source).name

    def check(self) -> None:
        """Check, without loading weights, that the model is available. Raises as `load`."""
        if pinned_name(self.source) == "smollm2":
            check(Path(self.source), "smollm2")
        if not Path(self.source).is_dir() or not any(Path(self.source).glob("*.gguf")):
            check_hub("language-model", self.source)
            return
        import_transformers("language-model")
        if importlib.util.find_spec("gguf") is None:
            raise ImportError("the language-model judge needs gguf: install trimask[eval-offline]")

    def load(self) -> "LoadedLanguageModel":
        """Load the weights, for any number of calls.

        Raises:
            ImportError: no transformers (or gguf). OSError, UserError: no such model, or not the pinned one.
        """
        if pinned_name(self.source) == "smollm2":
            check(Path(self.source), "smollm2")
        transformers = import_transformers("language-model")
        files = sorted(Path(self.source).glob("*.gguf")) if Path(self.source).is_dir() else []
        options = {"gguf_file": files[0].name} if files else {}
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.source, **options)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            self.source, dtype=torch.float32, **options
        )
        return LoadedLanguageModel(network=network.eval(), tokenizer=tokenizer)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedLanguageModel:
    """A language model in memory."""

    network: Any
    tokenizer: Any

    @torch.inference_mode()
    def nats(self, context: str, text: str) -> tuple[float, int]:
        """Compute −ln p(text | context) and the number of scored tokens.

        Without a context, the first token is not scored.
        """
        before = self.tokenizer(context)["input_ids"] if context else []
        ids = before + self.tokenizer(text, add_special_tokens=not context)["input_ids"]
        first = max(len(before), 1)
        if len(ids) <= first:
            return 0.0, 0
        tokens = torch.tensor([ids])
        log_p = torch.log_softmax(self.network(tokens).logits[0, :-1].double(), -1)
        picked = log_p.gather(1, tokens[0, 1:, None])[first - 1 :, 0]
        return -float(picked.sum()), len(picked)

    def perplexity(self, texts: Sequence[str]) -> tuple[Estimate, Float[np.ndarray, "texts"]]:
        """Compute exp of the mean nats per token, with its interval over texts, and the tokens of each text.

        Raises:
            UserError: no text has two tokens.
        """
        found = [self.nats("", text) for text in texts]
        nats, tokens = (np.array(values, dtype=np.float64) for values in zip(*found, strict=True))
        kept = tokens > 0
        if not kept.any():
            raise UserError("no text has two tokens: a perplexity needs at least one such text")
        rate = ratio(nats[kept], tokens[kept])
        return rate.apply_increasing(math.exp), tokens
