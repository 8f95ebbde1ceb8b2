"""What a worker does with a part of the input: tokenize it."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from trimask import parallel
from trimask.prepare.part import Codecs, tokenize_part
from trimask.prepare.record import PartRecord
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Part


class CodecLoader(ABC):
    """Loads the tokenizers, in whatever process it is called. Equal loaders load equal tokenizers."""

    @abstractmethod
    def __call__(self) -> Codecs: ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Work(parallel.Work[Part, PartRecord]):
    """What is done with each part."""

    codecs: CodecLoader
    options: PrepareOptions
    out: Path

    def __call__(self, part: Part) -> PartRecord:
        # One thread: another number of them would add floats in another order, and give other codes.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return tokenize_part(part, _loaded(self.codecs), self.options, self.out)
        finally:
            torch.set_num_threads(threads)


@functools.cache
def _loaded(codecs: CodecLoader) -> Codecs:
    """Once per process."""
    return codecs()
