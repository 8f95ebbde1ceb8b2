"""How much the sources of a run have, without their codes: what plans are made of."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from trimask.data.mixture import count_draws, mean_as_drawn
from trimask.data.selection import QuickstartData, StatedData
from trimask.data.source import ExampleSource
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN, TRIPLES
from trimask.datasets.quickstart import Utterance, load_images, load_text
from trimask.prepare.passages import windows
from trimask.runs.embedded import readings, select_concepts, select_speech, spoken_prompt
from trimask.tokenizers.bundle import Tokenizers
from trimask.vocabulary.tokenizer import SpeechCodec


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSize:
    """How much a source has.

    Attributes:
        drawn_per_epoch: examples that the mixture draws of it until each group has had its turns; None where
            it is not known.
        codes: of all examples, per modality (frames × codebooks); None likewise.
        mean_codes: of one example, as the mixture draws it.
    """

    drawn_per_epoch: int | None
    codes: Mapping[str, int] | None
    mean_codes: Mapping[str, float]

    @classmethod
    def of(
        cls,
        groups: Sequence[Hashable] | np.ndarray,
        codes: Mapping[str, Sequence[int] | np.ndarray],
        group_exponent: float,
    ) -> "SourceSize":
        """From the group of each example and its codes per modality."""
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
        return cls(
            drawn_per_epoch=int(count_draws(np.bincount(numbers), group_exponent).sum()),
            codes={modality: int(np.sum(counts)) for modality, counts in codes.items()},
            mean_codes={m: mean_as_drawn(counts, numbers, group_exponent) for m, counts in codes.items()},
        )


def counted_sizes(sources: Mapping[str, ExampleSource], group_exponent: float) -> dict[str, SourceSize]:
    """Of sources that are there."""
    return {
        name: SourceSize.of(source.groups, source.num_codes, group_exponent)
        for name, source in sources.items()
    }


def stated_sizes(data: StatedData) -> dict[str, SourceSize]:
    return {
        source.name: SourceSize(
            drawn_per_epoch=None,
            codes=None,
            mean_codes={m: float(n) for m, n in source.num_codes(data.spaces).items()},
        )
        for source in data.sources
    }


def embedded_sizes(
    data: QuickstartData, tokenizers: Tokenizers, group_exponent: float
) -> dict[str, SourceSize]:
    """As `runs.embedded.encode` makes them, but pictures and speech are not encoded."""
    images = select_concepts(load_images("train"), data)
    speech = select_speech(readings("train", data), data, {row.base for row in images})
    captions = {row.hexcode: len(tokenizers.text.encode(row.caption)) for row in images}
    cells = math.prod(tokenizers.image.grid) * tokenizers.image.num_codebooks
    frames = [_num_codes(row, tokenizers.speech) for row in speech]
    sizes: dict[str, SourceSize] = {}
    if images:
        codes = {"text": list(captions.values()), "image": [cells] * len(images)}
        sizes[EMOJI] = SourceSize.of([row.base for row in images], codes, group_exponent)
    if speech:
        prompts = [spoken_prompt(row.text, row.voice) for row in speech]
        spelled = [len(tokenizers.text.encode(prompt, is_spelled=True)) for prompt in prompts]
        sizes[SPOKEN] = SourceSize.of(
            [row.id for row in speech], {"text": spelled, "speech": frames}, group_exponent
        )
    said = {row.hexcode: codes for row, codes in zip(speech, frames, strict=True) if row.kind == "caption"}
    both = [row for row in images if row.hexcode in said]
    if both:
        codes = {"text": [captions[row.hexcode] for row in both], "image": [cells] * len(both)}
        codes["speech"] = [said[row.hexcode] for row in both]
        sizes[TRIPLES] = SourceSize.of([row.base for row in both], codes, group_exponent)
    lengths = [
        len(window)
        for row in load_text("train")
        for window in windows(row.text, tokenizers.text, data.text_window)
    ]
    if lengths:
        sizes[SPEECHES] = SourceSize.of(range(len(lengths)), {"text": lengths}, group_exponent)
    return sizes


def _num_codes(row: Utterance, codec: SpeechCodec) -> int:
    """Codes of a recording: a frame for each started 1 / frame_rate seconds."""
    frames = row.num_samples * codec.frame_rate / row.sample_rate
    return math.ceil(frames - 1e-6) * codec.num_codebooks
