"""Our sampler on logits that are given, and its random numbers in the hands of diffusers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trimask.sampling import Event, SamplerConfig, sample
from trimask.sampling.canvas import Canvas, find_canvases
from trimask.sampling.order import Step, gumbel
from trimask.sampling.predictor import Prediction
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence
from trimask.vocabulary.task import Task

CODES = 5
MASK = CODES
QUANTUM = 2.1e-3  # scores this close may be ranked either way: ours are rounded to 0.001, and ties are drawn


class Given:
    """A predictor of given logits, one table per pass; the last of them from then on."""

    def __init__(self, logits: Tensor):
        self.log_p, self.num_passes = logits.double().log_softmax(-1), 0
        space = CodeSpace(name="made", num_codebooks=1, codebook_size=CODES, has_end=False)
        self.vocabulary = Vocabulary(spaces=(space,), tasks=(Task(name="make", spans=(("made",),)),))
        self.device = torch.device("cpu")

    @property
    def document(self) -> Sequence:
        empty = np.zeros((self.log_p.shape[1], 1), dtype=np.int64)
        return build_sequence(self.vocabulary, "make", {"made": empty})

    def canvas(self, seed: int) -> Canvas:
        return find_canvases(self.document, self.vocabulary, seed=seed, key=0)[0]

    def codes(self, tokens: np.ndarray) -> np.ndarray:
        """The targets' codes, MASK where they are masked."""
        found = tokens[..., self.document.maskable] - self.vocabulary.ranges[0].start
        return np.where(tokens[..., self.document.maskable] == self.vocabulary.mask("made"), MASK, found)

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        log_p = self.log_p[min(self.num_passes, len(self.log_p) - 1)]
        self.num_passes += 1
        full = torch.zeros(*z.shape, CODES, dtype=torch.float64)
        full[batch.maskable] = log_p.repeat(len(z), 1)
        return lambda slots, range_index: full.flatten(0, 1)[slots]


def random_logits(seed: int, steps: int, length: int, sharpness: float = 2.0) -> Tensor:
    draw = torch.randn(steps, length, CODES, generator=torch.Generator().manual_seed(seed))
    return sharpness * draw


def our_states(predictor: Given, config: SamplerConfig, seed: int) -> list[np.ndarray]:
    """The codes before the first pass and after each one."""
    found: list[np.ndarray] = []
    sample(predictor, [predictor.document], config, seed=seed, callback=lambda e: found.append(e.tokens()))
    return [predictor.codes(tokens) for tokens in found]


def first_states(predictor: Given, config: SamplerConfig, number: int) -> np.ndarray:
    """The codes of so many samples after their first pass."""
    found: list[np.ndarray] = []

    def note(event: Event) -> None:
        if event.number == 1:
            found.append(event.tokens())

    sample(predictor, [predictor.document] * number, config, seed=0, callback=note)
    return predictor.codes(np.stack(found))


@contextmanager
def noise_of(canvas: Canvas, step: int, places: np.ndarray) -> Iterator[None]:
    """Let diffusers draw by our random numbers at these places of the canvas: a code by inversion, and the
    noise of scores.
    """
    from diffusers.schedulers import scheduling_amused

    def multinomial(p: Tensor, *_: Any, **__: Any) -> Tensor:
        uniforms = canvas.uniforms("code", step, places)
        rows = zip(p.double().numpy(), uniforms, strict=True)
        return torch.tensor([[np.searchsorted(row.cumsum() / row.sum(), u, "right")] for row, u in rows])

    noise = gumbel(canvas, Step(number=step, t=1.0, s=1.0))[places]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "multinomial", multinomial)
        patch.setattr(scheduling_amused, "gumbel_noise", lambda p, generator: torch.from_numpy(noise)[None])
        yield


def row(codes: np.ndarray) -> Any:
    """A batch of one row for diffusers."""
    return torch.from_numpy(codes)[None]


def is_clear_cut(scores: np.ndarray, count: int) -> bool:
    """Whether the `count` largest scores are the same however ours are rounded."""
    ordered = np.sort(scores)[::-1]
    return not 0 < count < len(ordered) or ordered[count - 1] - ordered[count] > QUANTUM
