"""`Results`: the results of one request, each generated when it is asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Int

from trimask.generation.codecs import Codecs
from trimask.generation.generated import Generated
from trimask.generation.keys import derive_key
from trimask.generation.length import say_how_to_lengthen, say_why_empty, warn_of_length
from trimask.sampling.config import SamplerConfig
from trimask.sampling.guidance import Guidance
from trimask.sampling.predictor import Predictor
from trimask.sampling.sampler import Event, Row, unmask
from trimask.vocabulary.sequence import Sequence as Document
from trimask.vocabulary.transcript import is_transcript


@final
class Results(Iterator[Generated]):
    """The results of a request, in the order of its `documents`; each as soon as it and those before it are
    full.

    `rows` and `decode` are what it is made of, for whoever fills the rows of several requests together.
    """

    def __init__(
        self,
        predictor: Predictor,
        codecs: Codecs,
        documents: Sequence[Document],
        numbers: Sequence[int],
        config: SamplerConfig,
        guidance: Callable[[Document], Guidance],
        *,
        seed: int,
        batch_size: int,
        callback: Callable[[Event], None] | None,
    ):
        self.codecs, self.documents, self.numbers, self.config = codecs, documents, numbers, config
        self._guidance, self._seed = guidance, seed
        self._filled = unmask(predictor, self.rows(), batch_size=batch_size, callback=callback)
        self._full: dict[int, tuple[Document, np.ndarray]] = {}
        self._place = 0

    def __next__(self) -> Generated:
        while self._place not in self._full:
            row, tokens = next(self._filled)
            self._full[row.place] = row.document, tokens
        document, tokens = self._full.pop(self._place)
        self._place += 1
        return self.decode(document, tokens)

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Make the row of each result, all of whose targets are masked, in places from `first` on."""
        for place, (document, number) in enumerate(zip(self.documents, self.numbers, strict=True), first):
            yield Row(
                document,
                self.codecs.vocabulary,
                self.config,
                seed=self._seed,
                key=derive_key(document, number),
                place=place,
                guidance=self._guidance(document),
            )

    def decode(self, document: Document, tokens: Int[np.ndarray, "slots"]) -> Generated:
        """Decode the targets of a sequence that is full; warn of spans that were too short.

        Args:
            document: that of the row as it was filled: length rules change the rows that `rows` made.
        """
        vocabulary, config = self.codecs.vocabulary, self.config
        tokens = tokens[: document.num_slots]
        found: dict[str, Any] = {"codes": {}}
        is_all_complete = True
        for modality in document.task.targets_of(list(document.spans)):
            start, stop = document.spans[modality]
            span = tokens[start:stop].reshape(-1, vocabulary.space(modality).num_codebooks)
            codes, is_complete = vocabulary.codes(modality, span)
            is_all_complete &= is_complete
            warn_of_length(
                modality,
                span_length=len(span),
                is_complete=is_complete,
                is_empty=len(codes) == 0,
                too_short=say_how_to_lengthen(document, modality, config),
                empty=say_why_empty(document.task.name, config),
                stacklevel=3,
            )
            found["codes"][modality] = codes
            if modality == "text":
                found["text"] = self.codecs.decode_text(codes, is_spoken=is_transcript(document.spans))
            elif modality == "image":
                found["image"] = self.codecs.decode_image(codes)
            elif modality == "speech":
                found["waveform"], found["sample_rate"] = self.codecs.decode_speech(codes)
        return Generated(task=document.task.name, is_complete=is_all_complete, tokens=tokens, **found)
