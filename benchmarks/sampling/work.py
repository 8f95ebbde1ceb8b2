"""What is sampled: a model, a task, and a batch whose rows are alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import PIL.Image
import torch

import trimask
from trimask import rng
from trimask.datasets.quickstart import load_images, load_speech
from trimask.generation.generate import Generator
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.recipes.reference import pilot_320m
from trimask.runs.build import build_vocabulary
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence

TASKS = ("text", "text_to_image", "image_to_text", "text_to_speech", "speech_to_text")
RANDOM = "random"
_CONDITION = {"text": 16, "speech": 50}  # of random codes: ids, frames
_TARGET = {"text": 128, "speech": 100}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """`document(task, length)`: a sequence to fill; `length` is that of a target that has no fixed one, in
    ids or frames, and None the model's own.
    """

    name: str
    denoiser: Denoiser
    document: Callable[[str, int | None], Sequence]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    model: Model
    task: str
    document: Sequence
    batch: Batch

    @property
    def num_targets(self) -> int:
        return int(self.batch.maskable.sum())

    def are_legal(self, tokens: torch.Tensor) -> bool:
        """Return whether each target holds a token of its own range, and the rest is as it was."""
        batch, ranges = self.batch, self.model.denoiser.vocabulary.ranges
        of_target, found = batch.range_index[batch.maskable], tokens[batch.maskable]
        start, stop = (torch.tensor([getattr(r, end) for r in ranges]) for end in ("start", "stop"))
        is_own = (found >= start[of_target]) & (found < stop[of_target])
        rest = ~batch.maskable
        return bool(is_own.all()) and torch.equal(tokens[rest], batch.tokens[rest])

    def end_share(self, tokens: torch.Tensor) -> float:
        """Return the share of end tokens: a sampler that floods its spans with them is soon done."""
        vocabulary = self.model.denoiser.vocabulary
        ends = [r.stop - 1 for r in vocabulary.ranges if vocabulary.space(r.modality).has_end]
        found = tokens[self.batch.maskable]
        return float(torch.isin(found, torch.tensor(ends)).float().mean())


def make_work(model: Model, task: str, rows: int, length: int | None) -> Work:
    document = model.document(task, length)
    return Work(model=model, task=task, document=document, batch=make_batch([document] * rows, range(rows)))


def trained_model(run: str) -> Model:
    """A trained model, as `trimask.load` finds it."""
    generator = trimask.load(run)
    denoiser = getattr(generator.predictor, "denoiser", None)
    assert isinstance(denoiser, Denoiser)
    return Model(
        name=run, denoiser=denoiser, document=lambda task, length: _document(generator, task, length)
    )


def random_model(width: int, depth: int, num_heads: int) -> Model:
    """Random weights over the reference geometry: 100,277 ids of text, pictures of 32 × 32 cells of 16,384
    codes, speech of 8 codebooks; a position for each code.
    """
    vocabulary = build_vocabulary(pilot_320m(), None)
    config = DenoiserConfig(width=width, depth=depth, num_heads=num_heads)
    return random_over(vocabulary, Denoiser(config, vocabulary))


def random_over(vocabulary: Vocabulary, denoiser: Denoiser) -> Model:
    """`denoiser` with random weights, where training would begin with zeros too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=max(denoiser.config.rule(name).init_std, 0.02), generator=generator)
    return Model(
        name=RANDOM,
        denoiser=denoiser.eval().requires_grad_(False),
        document=lambda task, length: _random_document(vocabulary, task, length),
    )


def _document(generator: Generator, task: str, length: int | None) -> Sequence:
    given: dict[str, Any] = dict.fromkeys(("text", "image", "speech"))
    match task:
        case "text_to_image":
            given["text"] = "strawberry"
        case "text_to_speech":
            given["text"] = "good morning"
        case "image_to_text":
            given["image"] = PIL.Image.fromarray(load_images("test")[0].pixels())
        case "speech_to_text":
            utterance = load_speech("test")[0]
            given["speech"] = utterance.waveform(), utterance.sample_rate
    has_end = any(generator.vocabulary.space(m).has_end for m in generator.task(task).targets)
    return generator.codecs.document(task, given, span_length=length if has_end else None)


def _random_document(vocabulary: Vocabulary, task: str, length: int | None) -> Sequence:
    row = vocabulary.task(task)
    codes = {}
    for modality in row.spans[0]:
        space = vocabulary.space(modality)
        is_condition = modality in row.condition
        frames = _CONDITION.get(modality) if is_condition else length or _TARGET.get(modality)
        if space.grid is not None:
            frames = space.grid[0] * space.grid[1]
        assert frames is not None
        draw = rng.generator(0, "condition", modality)
        codes[modality] = np.zeros((frames, space.num_codebooks), dtype=np.int64)
        if is_condition:
            codes[modality] = draw.integers(space.codebook_size, size=codes[modality].shape)
    return build_sequence(vocabulary, task, codes)
