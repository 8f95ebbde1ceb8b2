"""The work of one worker process: tokenize parts."""

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
    """Loads the tokenizers in the process that calls it. Equal loaders load equal tokenizers."""

    @abstractmethod
    def __call__(self) -> Codecs: ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Work(parallel.Work[Part, PartRecord]):
    """Tokenizes a part."""

    codecs: CodecLoader
    options: PrepareOptions
    out: Path

    def __call__(self, part: Part) -> PartRecord:
        # With more threads, floats would be summed in another order, which can change codes.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return tokenize_part(part, _load_once(self.codecs), self.options, self.out)
        finally:
            torch.set_num_threads(threads)


@functools.cache
def _load_once(codecs: CodecLoader) -> Codecs:
    """Load the tokenizers once per process."""
    return codecs()
