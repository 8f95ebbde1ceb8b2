"""Compiled blocks: one after the other, for any number of positions."""

import importlib.util
import os
import shutil
from typing import Any

import torch

from trimask.errors import UserError
from trimask.model.attention import AttentionBackend, attend
from trimask.model.block import Block
from trimask.model.denoiser import Denoiser


def compile_blocks(denoiser: Denoiser) -> None:
    """Compile each block separately, for any number of positions."""
    for block in denoiser.blocks:
        assert isinstance(block, Block)
        if denoiser.attention_backend in (None, AttentionBackend.LOOP):
            # The loop over documents differs between batches and would be recompiled for each.
            uncompiled: Any = torch.compiler.disable(attend)
            block.attention.attend = uncompiled
        block.compile(dynamic=True)


def check_compiler(device: torch.device) -> None:
    """Raise UserError if this machine lacks what compiles for `device`, which otherwise shows in the first
    pass.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UserError(
                "compiled blocks on a GPU need triton: install the PyTorch for CUDA, which has it"
            )
    elif not any(map(shutil.which, [os.environ.get("CXX", "g++"), "g++", "clang++"])):
        raise UserError("compiled blocks on a CPU need a C++ compiler: install g++, or name one in CXX")


def share_weights(denoiser: Denoiser) -> Denoiser:
    """Return another denoiser that computes with the same weights, in evaluation mode: what is compiled or
    replaced in it does not change the first one.
    """
    with torch.device("meta"):
        twin = Denoiser(denoiser.config, denoiser.vocabulary)
    twin.load_state_dict(denoiser.state_dict(), assign=True)
    twin.attention_backend = denoiser.attention_backend
    return twin.eval().requires_grad_(False)
