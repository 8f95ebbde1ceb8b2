"""Score likelihoods: NELBO per task and split, with and without the right condition, beside its floors."""

import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trimask import rng
from trimask.data.choice import choose
from trimask.data.source import ExampleSource
from trimask.data.stream import SpanSlack, target_ends
from trimask.estimate import ratio
from trimask.evaluation.likelihood import sequence_nelbo, target_tokens, unigram_bits
from trimask.evaluation.text import derangement
from trimask.model.denoiser import Denoiser
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.tokenizer import TextCodec

_UNIGRAM_SEQUENCES = 1000
Codes = Mapping[str, np.ndarray]


def measure_likelihood(
    denoiser: Denoiser,
    splits: Mapping[str, Mapping[str, ExampleSource]],
    name: str,
    task: str,
    text: TextCodec,
    *,
    seed: int,
    num_sequences: int,
    num_masks: int,
    slack: SpanSlack,
    text_window: int,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Measure the NELBO of `task` on source `name`, in bits per token (end tokens included).

    Each row has `conditional`, the task's NELBO; `unconditional`, with the condition hidden; `shuffled`, with
    the condition of another example; `gain_over_…`, the bits that the right condition saves, paired by
    example under the same masks; the floors `unigram`, by the frequencies of the training tokens, and
    `uniform`, log2 of the number of codes. Intervals are over sequences.

    Args:
        splits: split -> name -> source; must have "train".

    Returns:
        One row per split and target modality. If a task generates several modalities together, the row `all`
        is a bound; the rows with `is_part` are its terms, and no bounds themselves.
    """
    rows: list[dict[str, Any]] = []
    build = partial(_build, denoiser, slack, text_window, seed)
    training = splits["train"].get(name)
    if training is None:
        return rows
    chosen = choose(training, _UNIGRAM_SEQUENCES, seed)
    reference = build(task, [training.example(i) for i in chosen])
    for split, sources in splits.items():
        source = sources.get(name)
        if source is None or (split == "composition" and task == "joint"):
            continue
        report(f"likelihood: {task} ({name}), {split}")
        examples = [source.example(i) for i in choose(source, num_sequences, seed)]
        figures = _figures(
            denoiser, task, examples, build, seed=seed, num_masks=num_masks, reference=reference
        )
        for row in figures:
            if task == "text":
                row["bits_per_byte"] = _per_byte(row, examples, text)
            rows.append({"task": task, "source": name, "split": split, **row})
    return rows


def _build(
    denoiser: Denoiser, slack: SpanSlack, text_window: int, seed: int, task: str, examples: Rows[Codes]
) -> list[Sequence]:
    """Build sequences with end frames drawn as in training; example i always gets the same."""
    uniforms = [
        rng.generator(seed, "scorecard", "slack", i).random(len(denoiser.vocabulary.spaces))
        for i in range(len(examples))
    ]
    return [
        build_sequence(
            denoiser.vocabulary,
            task,
            codes,
            num_end=target_ends(slack, denoiser.vocabulary, task, codes, uniform, text_window=text_window),
        )
        for codes, uniform in zip(examples, uniforms, strict=True)
    ]


def _figures(
    denoiser: Denoiser,
    task: str,
    examples: Rows[Codes],
    build: Callable[[str, Rows[Codes]], list[Sequence]],
    *,
    seed: int,
    num_masks: int,
    reference: Rows[Sequence],
) -> list[dict[str, Any]]:
    sequences = build(task, examples)
    measure = partial(sequence_nelbo, denoiser, seed=seed, num_masks=num_masks)
    nats = {"conditional": measure(sequences)}
    row_of_task = denoiser.vocabulary.task(task)
    condition = row_of_task.condition
    if condition:
        nats["unconditional"] = measure(sequences, is_unconditional=True)
        if len(examples) > 1:
            other = derangement(len(examples), seed)
            swapped = [
                {**codes, **{modality: examples[j][modality] for modality in condition}}
                for codes, j in zip(examples, other, strict=True)
            ]
            nats["shuffled"] = measure(build(task, swapped))
    rows = []
    for modality in row_of_task.targets_of(list(examples[0])):
        row = _row(
            {name: values[modality] for name, values in nats.items()},
            np.array([target_tokens(s, denoiser.vocabulary, modality) for s in sequences]),
        )
        row["unigram"] = unigram_bits(reference, sequences, denoiser.vocabulary, modality)
        row["uniform"] = math.log2(denoiser.vocabulary.space(modality).range_size)
        rows.append({"modality": modality, **row})
    if row_of_task.target is not None:
        return rows
    whole = _row(
        {name: np.sum(list(values.values()), axis=0) for name, values in nats.items()},
        np.array([s.maskable.sum() for s in sequences]),
    )
    for floor in ("unigram", "uniform"):
        whole[floor] = sum(row[floor] * row["num_tokens"] for row in rows) / whole["num_tokens"]
    return [{"modality": "all", **whole}, *({**row, "is_part": True} for row in rows)]


def _row(
    nats: Mapping[str, Float[np.ndarray, "sequences"]], tokens: Int[np.ndarray, "sequences"]
) -> dict[str, Any]:
    """Compute bits per token, and the bits that the right condition saves, from nats per sequence."""
    row: dict[str, Any] = {"num_sequences": len(tokens), "num_tokens": int(tokens.sum())}
    for name, values in nats.items():
        row[name] = ratio(values / math.log(2), tokens.astype(np.float64)).as_json()
        if name != "conditional":
            saved = (values - nats["conditional"]) / math.log(2)
            row[f"gain_over_{name}"] = ratio(saved, tokens.astype(np.float64)).as_json()
    return row


def _per_byte(row: Mapping[str, Any], examples: Rows[Codes], text: TextCodec) -> dict[str, Any]:
    """Convert to bits per byte of the passages: bits of all targets over UTF-8 bytes."""
    size = sum(len(text.decode(codes["text"][:, 0].tolist()).encode()) for codes in examples)
    scale = row["num_tokens"] / max(size, 1)
    bits = row["conditional"]
    return {name: bits[name] * scale for name in ("value", "low", "high") if name in bits} | {"n": bits["n"]}
