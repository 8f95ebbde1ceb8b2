"""Sentence vectors of captions: texts of similar meaning have a high cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float

from trimask.evaluation.judges.hub import check_hub, import_transformers
from trimask.evaluation.judges.pinned import check
from trimask.evaluation.judges.weights import pinned_name

_BATCH, _LONGEST = 64, 256


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceJudge:
    """A frozen sentence encoder.

    `source` is a name or folder of a text encoder for transformers; its token vectors are averaged, as for
    all-MiniLM-L6-v2.
    """

    source: str

    @property
    def name(self) -> str:
        return "MiniLM-L6" if pinned_name(self.source) == "minilm" else Path(self.source).name

    def check(self) -> None:
        """Check, without loading weights, that the model is available. Raises as `vectors`."""
        if pinned_name(self.source) == "minilm":
            check(Path(self.source), "minilm")
        check_hub("sentence", self.source)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Compute a unit vector per text.

        Raises:
            ImportError: no transformers. OSError, UserError: no such model, or not the pinned one.
        """
        if pinned_name(self.source) == "minilm":
            check(Path(self.source), "minilm")
        transformers = import_transformers("sentence")
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.source)
        network = transformers.AutoModel.from_pretrained(self.source).eval()
        parts = []
        for start in range(0, len(texts), _BATCH):
            inputs = tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=_LONGEST,
                return_tensors="pt",
            )
            hidden = network(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None].float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=1).numpy())
        return np.concatenate(parts)
