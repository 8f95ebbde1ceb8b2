"""What kinds of tokenizers differ in when they are trained."""

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
    """A field that asks for much data: its option, its value, the most and the least that it may be."""

    option: str
    wanted: int
    most: int
    least: int = 1


def codebook_limit(prefix: str, quantizer: QuantizerConfig, num_vectors: int) -> list[Limit]:
    """Codebooks start from vectors of the data, a different one for each code; grids from none."""
    if not isinstance(quantizer, ResidualVectorConfig):
        return []
    option = f"--{prefix}.quantizer.codebook-size"
    return [Limit(option=option, wanted=quantizer.codebook_size, most=num_vectors, least=2)]


class TokenizerTraining(ABC):
    """Everything between the decoded signals of a run and its updates.

    Attributes:
        kind: of the signals.
        size: pixels along each side, or samples a second.
        tokenizer_type: what is trained.
        config: the run.
    """

    kind: Kind
    size: int
    tokenizer_type: type[ImageTokenizer] | type[SpeechTokenizer]
    config: Any

    @property
    def stages(self) -> Mapping[int, str]:
        """Names of the stages of a run whose loss changes its meaning, by their first update."""
        return {}

    def data(self, rows: Signals, folder: Path, report: Report) -> Any:
        """What is trained on, made of `rows`; `folder` keeps what takes time."""
        return rows

    @abstractmethod
    def batches(self, data: Any) -> Callable[[int], Iterable[Any]]:
        """Endless batches from batch `start` on."""

    @abstractmethod
    def limits(self, data: Any) -> Iterable["Limit"]:
        """What the run asks of the data, field by field, and the most that `data` allow."""

    def check(self, data: Any) -> None:
        """UserError if `data` are too few for the run: it names all that must change, with the values."""
        over = [limit for limit in self.limits(data) if limit.wanted > limit.most]
        if not over:
            return
        noun = "pictures" if self.kind == "image" else "recordings"
        changes = [f"{limit.option} is {limit.wanted:,}, at most {max(limit.most, 0):,}" for limit in over]
        impossible = any(limit.most < limit.least for limit in over)
        mend = (
            "add some" if impossible else "give smaller values, with the same --out if you like, or add some"
        )
        raise UserError(f"there are too few {noun} for this run: {'; '.join(changes)}: {mend}")

    @abstractmethod
    def fit(self, tokenizer: Any, data: Any, draw: np.random.Generator) -> None:
        """Start the linear code and the codebooks from `data`."""

    @abstractmethod
    def step(self, tokenizer: Any) -> Step:
        """The updates."""

    def untrained(self) -> Any:
        """The tokenizer with seeded networks, nothing fitted yet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.key(self.config.seed, f"{self.kind}_tokenizer", "weights"))
            return self.tokenizer_type(self.config.tokenizer)

    def fitted(self, data: Any, kept: Path, report: Report = lambda message: None) -> Any:
        """The tokenizer that the updates start from."""
        if kept.exists():  # k-means takes minutes: a resumed run goes on from what it gave
            try:
                return self.tokenizer_type.load(kept).train()
            except ValueError as error:
                logger.warning("%s; set aside as %s, and fitted again", error, io.set_aside(kept))
        report("fitting the linear code and the codebooks")
        tokenizer = self.untrained()
        self.fit(tokenizer, data, rng.generator(self.config.seed, f"{self.kind}_tokenizer", "fit"))
        tokenizer.save(kept)
        return tokenizer
