"""A run's weights in half precision, as shipped: `python -m trimask.recipes.export RUN OUT.safetensors`."""

import sys
from pathlib import Path

import torch

from trimask import io
from trimask.model.weights import KIND, load_denoiser, save_denoiser
from trimask.recipes.pretrain import MODEL


def export(run: Path, out: Path) -> None:
    """Write the finished model of `run` to `out` in float16 (half the size; it is read back as float32).

    Raises:
        FileNotFoundError, ValueError: the run has no finished model, or its file is damaged.
    """
    trained = run / MODEL
    metadata = io.load_tensors(trained, kind=KIND).metadata
    save_denoiser(out, load_denoiser(trained), dtype=torch.float16, **metadata)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m trimask.recipes.export RUN OUT.safetensors")
    export(Path(sys.argv[1]), Path(sys.argv[2]))
