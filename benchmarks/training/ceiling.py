"""The ceiling: products of two matrices, what the machine does at best."""

from pathlib import Path

import torch
from shape import Shape
from worker import System, serve

SIDE = 2048
PRODUCT_FLOPS = 2.0 * SIDE**3


def build(shape: Shape, source: Path) -> System:
    left, right, out = torch.randn(3, SIDE, SIDE)
    return System(update=lambda: torch.mm(left, right, out=out), parameters={})


if __name__ == "__main__":
    serve(build)
