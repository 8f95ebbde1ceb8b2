"""trimask's update: `DenoiserStep` on a vocabulary that holds next to nothing but text."""

from pathlib import Path

import numpy as np
from shape import Shape
from worker import System, parameters_by_part, serve

from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.parametrization import CompletedP
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import build_sequence


def build(shape: Shape, source: Path) -> System:
    vocabulary = Vocabulary(
        spaces=(
            CodeSpace(name="text", num_codebooks=1, codebook_size=shape.vocabulary - 1, has_end=True),
            CodeSpace(name="image", num_codebooks=1, codebook_size=1, has_end=False, grid=(1, 1)),
            CodeSpace(name="speech", num_codebooks=1, codebook_size=1, has_end=True),
        )
    )
    parametrization = CompletedP(
        base_width=shape.width, base_depth=shape.depth, base_num_heads=shape.num_heads
    )
    config = DenoiserConfig(
        width=shape.width, depth=shape.depth, num_heads=shape.num_heads, parametrization=parametrization
    )
    denoiser = Denoiser(config, vocabulary)
    denoiser.initialize(0)
    step = DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=3e-4),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=10_000,
        seed=0,
        targets=(float(shape.length), 0.0, 0.0),
        tasks=("text",),
    )
    batch = text_batch(shape, vocabulary)
    return System(
        update=lambda: {name: float(value) for name, value in step(batch).items()},
        parameters=parameters_by_part(denoiser, embedding="embedding"),
    )


def text_batch(shape: Shape, vocabulary: Vocabulary) -> Batch:
    """`length` targets a row. The template's three special tokens come on top: they are work that the others
    do not have.
    """
    codes = np.random.default_rng(0).integers(shape.vocabulary - 1, size=(shape.rows, shape.length, 1))
    sequences = [build_sequence(vocabulary, "text", {"text": row}) for row in codes]
    return make_batch(sequences, range(shape.rows))


if __name__ == "__main__":
    serve(build)
