"""What a run will cost, without tokenizing its data: parameters, sequences, epochs, FLOPs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from trimask.data.prepare.manifest import load_split
from trimask.data.quickstart import load_images, load_speech, load_text
from trimask.data.selection import DataConfig, PreparedData, QuickstartData
from trimask.data.shards import ShardedTokens
from trimask.model.flops import count_parameters, forward_flops
from trimask.recipes.tokens import (
    EMOJI,
    SPEECHES,
    SPOKEN,
    TRIPLES,
    select_concepts,
    select_speech,
    spoken_prompt,
)
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.modality import CONDITION, Modality

_BACKWARD = 2  # a backward pass costs about two forward ones


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSize:
    """How many groups and examples a source has, and how many frames its spans take on average."""

    num_groups: int
    num_examples: int
    frames: Mapping[Modality, float]


def figures(config: RunConfig, tokenizers: Tokenizers) -> dict[str, Any]:
    """Exact parameters and sequences; epochs and FLOPs from the mean lengths of the training data (end
    tokens left out).
    """
    vocabulary = tokenizers.vocabulary(image_layout=config.image_layout, audio_layout=config.audio_layout)
    count = count_parameters(config.model, vocabulary)
    sources = source_sizes(config.data, tokenizers)
    num_sequences = config.logical_batch * config.num_steps
    total_weight = sum(component.weight for component in config.mixture.components)
    mixture, flops, codebooks = [], 0.0, _codebooks(tokenizers)
    for component in config.mixture.components:
        if component.source not in sources:
            raise ValueError(f"the chosen data has no {component.source} for task {component.task.value}")
        size = sources[component.source]
        sequences = num_sequences * component.weight / total_weight
        tokens = size.num_examples * sum(n * codebooks[m] for m, n in size.frames.items())
        is_target = {m: m != CONDITION[component.task] for m in size.frames}
        flops += sequences * _sequence_flops(config, vocabulary, size.frames, is_target)
        mixture.append(
            {
                "task": component.task.value,
                "source": component.source,
                "tokens": round(tokens),
                "target_tokens": round(
                    sequences * sum(n * codebooks[m] for m, n in size.frames.items() if is_target[m])
                ),
                "sequences": round(sequences),
                "epochs": float(f"{sequences / size.num_groups:.3g}"),
            }
        )
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


def source_sizes(data: DataConfig, tokenizers: Tokenizers) -> dict[str, SourceSize]:
    """The sources of the training split."""
    if isinstance(data, PreparedData):
        return {
            name: _prepared_size(source, tokenizers)
            for name, source in load_split(data.folders, "train").items()
        }
    return _quickstart_sizes(data, tokenizers)


def _prepared_size(source: ShardedTokens, tokenizers: Tokenizers) -> SourceSize:
    codebooks = _codebooks(tokenizers)
    return SourceSize(
        num_groups=len(np.unique(source.groups)),
        num_examples=len(source),
        frames={m: n / codebooks[m] / len(source) for m, n in source.num_tokens.items()},
    )


def _codebooks(tokenizers: Tokenizers) -> dict[Modality, int]:
    image, speech = tokenizers.image.num_codebooks, tokenizers.speech.num_codebooks
    return {Modality.TEXT: 1, Modality.IMAGE: image, Modality.AUDIO: speech}


def _quickstart_sizes(data: QuickstartData, tokenizers: Tokenizers) -> dict[str, SourceSize]:
    """Measured without tokenizing: texts are encoded, pictures and audio are not."""
    images = select_concepts(load_images("train"), data)
    bases = {row.base for row in images}
    speech = select_speech(load_speech("train"), data, bases)
    captions = {row.hexcode: len(tokenizers.text.encode(row.caption)) for row in images}
    rows, columns = tokenizers.image.grid
    cells = float(rows * columns)
    rate = tokenizers.speech.frame_rate
    frames = {row.id: row.num_samples / row.sample_rate * rate for row in speech}
    spelled = [len(spoken_prompt(row.text, row.voice).encode()) for row in speech]
    both = [row for row in speech if row.kind == "caption" and row.hexcode in captions]
    sizes = {
        EMOJI: SourceSize(
            num_groups=len(bases),
            num_examples=len(images),
            frames={Modality.TEXT: _mean(captions.values()), Modality.IMAGE: cells},
        )
    }
    if speech:
        sizes[SPOKEN] = SourceSize(
            num_groups=len(speech),
            num_examples=len(speech),
            frames={Modality.TEXT: _mean(spelled), Modality.AUDIO: _mean(frames.values())},
        )
    if both:
        sizes[TRIPLES] = SourceSize(
            num_groups=len({row.base for row in both}),
            num_examples=len(both),
            frames={
                Modality.TEXT: _mean([captions[row.hexcode] for row in both if row.hexcode]),
                Modality.IMAGE: cells,
                Modality.AUDIO: _mean([frames[row.id] for row in both]),
            },
        )
    return sizes | _passages(data, tokenizers)


def _passages(data: QuickstartData, tokenizers: Tokenizers) -> dict[str, SourceSize]:
    paragraphs = [text for row in load_text("train") for text in row.text.split("\n") if text.strip()]
    lengths = [len(tokenizers.text.encode(text)) for text in paragraphs]
    windows = sum(math.ceil(length / data.text_window) for length in lengths)
    if not windows:
        return {}
    frames = {Modality.TEXT: sum(lengths) / windows}
    return {SPEECHES: SourceSize(num_groups=windows, num_examples=windows, frames=frames)}


def _sequence_flops(
    config: RunConfig,
    vocabulary: Vocabulary,
    frames: Mapping[Modality, float],
    is_target: Mapping[Modality, bool],
) -> float:
    """Forward and backward passes on one sequence, half of whose targets are masked on average."""
    positions, heads = 0, 0
    for modality, length in frames.items():
        space = vocabulary.space(modality)
        positions += space.layout.num_positions(round(length), space.num_codebooks)
        if is_target[modality]:
            heads += forward_flops(
                config.model,
                num_positions=0,
                document_length=0,
                num_predicted=round(length * space.num_codebooks / 2),
                range_size=space.range_size,
            )
    body = forward_flops(
        config.model, num_positions=positions, document_length=positions, num_predicted=0, range_size=0
    )
    num_views = 2 if config.objective.anti_masking else 1
    return float((1 + _BACKWARD) * num_views * (body + heads))


def _mean(values: Any) -> float:
    items: Sequence[float] = list(values)
    return sum(items) / max(len(items), 1)
