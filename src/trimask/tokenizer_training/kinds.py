"""The interface between the training loop and the training of each kind of tokenizer."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from trimask import io, rng
from trimask.errors import UserError
from trimask.tokenizer_training.decoded import Kind, Report
from trimask.tokenizer_training.image import ImageTokenizerRun
from trimask.tokenizer_training.signals import Signals
from trimask.tokenizer_training.speech import SpeechTokenizerRun
from trimask.tokenizers.image import ImageTokenizer
from trimask.tokenizers.quantizer import QuantizerConfig, ResidualVectorConfig
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.training.loop import Step

logger = logging.getLogger(__name__)

TokenizerRun = ImageTokenizerRun | SpeechTokenizerRun


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A field that the amount of data limits: its option, value, and largest and smallest values."""

    option: str
    wanted: int
    most: int
    least: int = 1


def codebook_limit(prefix: str, quantizer: QuantizerConfig, num_vectors: int) -> list[Limit]:
    """Limit the codebook size to the number of vectors, since k-means starts from different vectors."""
    if not isinstance(quantizer, ResidualVectorConfig):
        return []
    option = f"--{prefix}.quantizer.codebook-size"
    return [Limit(option=option, wanted=quantizer.codebook_size, most=num_vectors, least=2)]


class TokenizerTraining(ABC):
    """Everything between the decoded signals of a run and its updates.

    Attributes:
        kind: kind of signals.
        size: pixels along each side, or samples per second.
        tokenizer_type: class of the trained tokenizer.
        config: configuration of the run.
    """

    kind: Kind
    size: int
    tokenizer_type: type[ImageTokenizer] | type[SpeechTokenizer]
    config: Any

    @property
    def stages(self) -> Mapping[int, str]:
        """The first step and the name of each stage, in a run whose stages have different losses."""
        return {}

    def data(self, rows: Signals, folder: Path, report: Report) -> Any:
        """Derive the training data from `rows`; `folder` caches expensive results."""
        return rows

    @abstractmethod
    def batches(self, data: Any) -> Callable[[int], Iterable[Any]]:
        """Return a function that yields endless batches from batch `start` on."""

    @abstractmethod
    def limits(self, data: Any) -> Iterable["Limit"]:
        """Return the fields of the run that `data` limit."""

    def check(self, data: Any) -> None:
        """Raise UserError if the run needs more data; the message lists all fields to change, with values."""
        over = [limit for limit in self.limits(data) if limit.wanted > limit.most]
        if not over:
            return
        noun = "pictures" if self.kind == "image" else "recordings"
        changes = [f"{limit.option} is {limit.wanted:,}, at most {max(limit.most, 0):,}" for limit in over]
        impossible = any(limit.most < limit.least for limit in over)
        remedy = (
            f"add {noun}" if impossible else f"lower these values (--out may stay the same), or add {noun}"
        )
        raise UserError(f"there are too few {noun} for this run: {'; '.join(changes)}: {remedy}")

    @abstractmethod
    def fit(self, tokenizer: Any, data: Any, draw: np.random.Generator) -> None:
        """Initialize the linear code and the codebooks from `data`."""

    @abstractmethod
    def step(self, tokenizer: Any) -> Step:
        """Return the training step."""

    def build(self) -> Any:
        """Return a new tokenizer with seeded weights, before it is fitted."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.key(self.config.seed, f"{self.kind}_tokenizer", "weights"))
            return self.tokenizer_type(self.config.tokenizer)

    def load_or_fit(self, data: Any, path: Path, report: Report = lambda message: None) -> Any:
        """Return the tokenizer that training starts from, and store it at `path`.

        A resumed run loads it, since k-means takes minutes.
        """
        if path.exists():
            try:
                return self.tokenizer_type.load(path).train()
            except ValueError as error:
                logger.warning("%s; set aside as %s, and fitted again", error, io.set_aside(path))
        report("fitting the linear code and the codebooks")
        tokenizer = self.build()
        self.fit(tokenizer, data, rng.generator(self.config.seed, f"{self.kind}_tokenizer", "fit"))
        tokenizer.save(path)
        return tokenizer
