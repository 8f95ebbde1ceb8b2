"""Values by their exact types, where an interface states less than a test knows."""

from torch import Tensor

from trimask.model.block import Block
from trimask.model.denoiser import Denoiser
from trimask.recipes import catalog
from trimask.training.run import RunConfig


def resolve_run(name: str) -> RunConfig:
    """The recipe of a model."""
    config = catalog.resolve(name)
    assert isinstance(config, RunConfig), name
    return config


def blocks_of(denoiser: Denoiser) -> list[Block]:
    return [block for block in denoiser.blocks if isinstance(block, Block)]


def gradient(tensor: Tensor) -> Tensor:
    """The gradient that a backward pass has left."""
    assert tensor.grad is not None
    return tensor.grad
