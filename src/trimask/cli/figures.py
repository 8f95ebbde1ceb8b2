"""What a run will cost, without tokenizing its data: parameters, sequences, epochs, FLOPs."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from trimask.data.mixture import Component, mean_over_groups, sequence_shares, target_tokens
from trimask.data.prepare.manifest import load_split
from trimask.data.quickstart import Utterance, load_images, load_speech, load_text
from trimask.data.selection import DataConfig, PreparedData, QuickstartData
from trimask.model.flops import count_parameters, forward_flops
from trimask.recipes.tokens import (
    EMOJI,
    SPEECHES,
    SPOKEN,
    TRIPLES,
    select_concepts,
    select_speech,
    spoken_prompt,
    windows,
)
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.modality import CONDITION, Modality, Task
from trimask.vocabulary.tokenizer import SpeechCodec

_BACKWARD = 2  # a backward pass costs about two forward ones


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSize:
    """How much a source has.

    Attributes:
        codes: of all examples, per modality (frames × codebooks).
        mean_codes: of one example, as the mixture draws it: groups count equally.
    """

    num_groups: int
    codes: Mapping[Modality, int]
    mean_codes: Mapping[Modality, float]

    @classmethod
    def of(
        cls, groups: Sequence[Hashable] | np.ndarray, codes: Mapping[Modality, Sequence[int] | np.ndarray]
    ) -> "SourceSize":
        """From the group of each example and its codes per modality."""
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
        return cls(
            num_groups=int(numbers.max()) + 1,
            codes={modality: int(np.sum(counts)) for modality, counts in codes.items()},
            mean_codes={m: mean_over_groups(counts, numbers) for m, counts in codes.items()},
        )


def figures(config: RunConfig, tokenizers: Tokenizers) -> dict[str, Any]:
    """Exact parameters, sequences and shares; epochs and FLOPs from the mean lengths of the training data
    (end tokens left out).
    """
    vocabulary = tokenizers.vocabulary(image_layout=config.image_layout, audio_layout=config.audio_layout)
    count = count_parameters(config.model, vocabulary)
    sources = source_sizes(config.data, tokenizers)
    components = config.mixture.components
    for component in components:
        if component.source not in sources:
            raise ValueError(f"the chosen data has no {component.source} for task {component.task.value}")
    num_sequences = config.logical_batch * config.num_steps
    shares = sequence_shares(components, {name: size.mean_codes for name, size in sources.items()})
    mixture, flops = [], 0.0
    for component, share in zip(components, shares.tolist(), strict=True):
        size = sources[component.source]
        flops += num_sequences * share * _sequence_flops(config, vocabulary, component.task, size.mean_codes)
        mixture.append(_described(component, size, num_sequences * share))
    targets = sum(row["target_tokens"] for row in mixture)
    for row in mixture:
        row["share"] = float(f"{row['target_tokens'] / targets:.4g}")
    return {
        "parameters": {
            "total": count.total,
            "blocks": count.blocks,
            "embedding": count.embedding,
            "unembedding": count.unembedding,
        },
        "vocabulary": vocabulary.size,
        "sequences": num_sequences,
        "mixture": mixture,
        "training_flops": float(f"{flops:.3g}"),
    }


def _described(component: Component, size: SourceSize, sequences: float) -> dict[str, Any]:
    """A component: what its source has (`tokens`), and how much of it the run draws."""
    targets = sequences * target_tokens(component.task, size.mean_codes)
    return {
        "data": "+".join(modality.name.lower() for modality in sorted(size.codes)),
        "task": component.task.value,
        "source": component.source,
        "tokens": sum(size.codes.values()),
        "target_tokens": round(targets),
        "sequences": round(sequences),
        "epochs": float(f"{sequences / size.num_groups:.3g}"),
        "token_epochs": float(f"{targets / target_tokens(component.task, size.codes):.3g}"),
    }


def source_sizes(data: DataConfig, tokenizers: Tokenizers) -> dict[str, SourceSize]:
    """The sources of the training split."""
    if isinstance(data, PreparedData):
        found = load_split(data.folders, "train")
        return {name: SourceSize.of(source.groups, source.num_codes) for name, source in found.items()}
    return _quickstart_sizes(data, tokenizers)


def _quickstart_sizes(data: QuickstartData, tokenizers: Tokenizers) -> dict[str, SourceSize]:
    """As `recipes.tokens.tokenize` makes them, but pictures and audio are not encoded."""
    images = select_concepts(load_images("train"), data)
    speech = select_speech(load_speech("train"), data, {row.base for row in images})
    captions = {row.hexcode: len(tokenizers.text.encode(row.caption)) for row in images}
    cells = math.prod(tokenizers.image.grid) * tokenizers.image.num_codebooks
    frames = [_num_codes(row, tokenizers.speech) for row in speech]
    text, image, audio = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
    sizes: dict[str, SourceSize] = {}
    if images:
        codes = {text: list(captions.values()), image: [cells] * len(images)}
        sizes[EMOJI] = SourceSize.of([row.base for row in images], codes)
    if speech:
        prompts = [spoken_prompt(row.text, row.voice) for row in speech]
        spelled = [len(tokenizers.text.encode(prompt, is_spelled=True)) for prompt in prompts]
        sizes[SPOKEN] = SourceSize.of([row.id for row in speech], {text: spelled, audio: frames})
    said = {row.hexcode: codes for row, codes in zip(speech, frames, strict=True) if row.kind == "caption"}
    both = [row for row in images if row.hexcode in said]
    if both:
        codes = {text: [captions[row.hexcode] for row in both], image: [cells] * len(both)}
        codes[audio] = [said[row.hexcode] for row in both]
        sizes[TRIPLES] = SourceSize.of([row.base for row in both], codes)
    passages = [row.text for row in load_text("train")]
    lengths = [len(window) for window in windows(passages, tokenizers, data.text_window)]
    if lengths:
        sizes[SPEECHES] = SourceSize.of(range(len(lengths)), {text: lengths})
    return sizes


def _num_codes(row: Utterance, codec: SpeechCodec) -> int:
    """Codes of a recording: a frame for each started 1 / frame_rate seconds."""
    frames = row.num_samples * codec.frame_rate / row.sample_rate
    return math.ceil(frames - 1e-6) * codec.num_codebooks


def _sequence_flops(
    config: RunConfig,
    vocabulary: Vocabulary,
    task: Task,
    mean_codes: Mapping[Modality, float],
) -> float:
    """Forward and backward passes on one sequence, half of whose targets are masked on average."""
    positions, heads = 0, 0
    for modality, codes in mean_codes.items():
        space = vocabulary.space(modality)
        positions += space.layout.num_positions(round(codes / space.num_codebooks), space.num_codebooks)
        if modality != CONDITION[task]:
            heads += forward_flops(
                config.model,
                num_positions=0,
                document_length=0,
                num_predicted=round(codes / 2),
                range_size=space.range_size,
            )
    body = forward_flops(
        config.model, num_positions=positions, document_length=positions, num_predicted=0, range_size=0
    )
    num_views = 2 if config.objective.anti_masking else 1
    return float((1 + _BACKWARD) * num_views * (body + heads))
