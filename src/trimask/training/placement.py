"""Place an untrained denoiser on the devices of a run: precision, recomputation, compilation, sharding."""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from trimask.errors import UserError
from trimask.model.attention import AttentionBackend
from trimask.model.block import Block
from trimask.model.compilation import compile_blocks
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.recompute import Recompute
from trimask.training.compute import ComputeConfig, Precision
from trimask.training.distributed import World
from trimask.vocabulary.layout import Vocabulary

logger = logging.getLogger(__name__)

_COMPUTING = ("weighted_loss", "cross_entropy")
"""The methods that use parameters."""


def place(
    config: DenoiserConfig, vocabulary: Vocabulary, *, seed: int, compute: ComputeConfig, world: World
) -> Denoiser:
    """Build and initialize the denoiser for training; if sharded, no process ever holds all of it.

    Parameters are fp32 masters. Where `world` has a mesh they are sharded (FSDP2), block by block, and
    gathered in the precision of the matrix products; elsewhere each pass copies them in that precision.

    Raises:
        UserError, ImportError: as `check`.
    """
    check(compute, world)
    precision = compute.precision_on(world.device)
    with torch.device("cpu" if world.mesh is None else "meta"):
        denoiser = Denoiser(config, vocabulary)
    dtype = torch.float32 if precision is Precision.FP32 else torch.bfloat16
    denoiser.attention_backend = compute.attention or AttentionBackend.suited(world.device, dtype)
    if precision is Precision.FLOAT8:
        _use_float8(denoiser)
    for block in denoiser.blocks:
        assert isinstance(block, Block)
        block.recompute = compute.recompute
    if compute.compile:
        compile_blocks(denoiser)
    if world.mesh is not None:
        _shard(denoiser, precision, compute, world)
        denoiser.to_empty(device=world.device)
    elif precision is Precision.BF16:
        recomputed = denoiser.blocks if compute.recompute is not Recompute.NONE else ()
        for block in recomputed:  # the backward pass calls this again, outside of the methods below
            _copy_before(block, "_residual", dtype)
        for method in _COMPUTING:
            _copy_before(denoiser, method, dtype, but="blocks." if recomputed else None)
    denoiser.initialize(seed)
    return denoiser


def check(compute: ComputeConfig, world: World) -> None:
    """Check the settings before anything is built.

    Raises:
        UserError: a precision or attention that does not suit the device. bf16 where the CPU has no
            instructions for it is only warned of.
        ImportError: float8 without its library.
    """
    precision, attention = compute.precision_on(world.device), compute.attention
    if precision is Precision.FLOAT8 and world.mesh is None:
        raise UserError("precision float8 on one CPU process: CPUs have no such products; use bf16 or fp32")
    if precision is Precision.BF16 and world.device.type == "cpu" and not _has_bf16_products():
        logger.warning(
            "precision bf16: this CPU has no instructions for it, and computes many times slower than in fp32"
        )
    if precision is Precision.FLOAT8 and importlib.util.find_spec("torchao") is None:
        raise ImportError("precision float8 needs the extra `float8`: pip install trimask[float8]")
    if attention not in (None, AttentionBackend.LOOP) and world.device.type != "cuda":
        raise UserError(f"attention {attention.value} needs a GPU: use loop, or leave it out")
    if attention is AttentionBackend.VARLEN and precision is Precision.FP32:
        raise UserError("attention varlen computes in half precision: use precision bf16, or attention loop")


def _has_bf16_products() -> bool:
    """Whether this CPU has instructions for bf16; True where torch is too old to say."""
    read = getattr(torch.cpu, "get_capabilities", None)
    if read is None:
        return True
    found = read()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _copy_before(owner: nn.Module, name: str, dtype: torch.dtype, *, but: str | None = None) -> None:
    """Wrap the method `name` of `owner` to compute with copies of the parameters in `dtype`, except those
    whose names begin with `but`; gradients reach the masters through the copies.
    """
    from torch.func import functional_call

    called = _Called(owner, getattr(owner, name))

    def with_copies(*args: Any, **kwargs: Any) -> Any:
        copies = {
            f"owner.{each}": master.to(dtype)
            for each, master in owner.named_parameters()
            if but is None or not each.startswith(but)
        }
        return functional_call(called, copies, args, kwargs)

    setattr(owner, name, with_copies)


@final
class _Called(nn.Module):
    """A method as a module, since `functional_call` calls no others."""

    def __init__(self, owner: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.owner = owner
        self.forward = method


def _shard(denoiser: Denoiser, precision: Precision, compute: ComputeConfig, world: World) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(
        param_dtype=None if precision is Precision.FP32 else torch.bfloat16,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # angles stay fp32
    )
    for block in denoiser.blocks:
        fully_shard(block, mesh=world.mesh, mp_policy=policy, reshard_after_forward=compute.reshard)
    fully_shard(denoiser, mesh=world.mesh, mp_policy=policy)
    for method in _COMPUTING:
        _gather_before(denoiser, method)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Arguments:
    """Method arguments hidden from FSDP, which would copy their tensors to the GPU and wait; the model needs
    some of them on the host.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _gather_before(denoiser: Denoiser, name: str) -> None:
    """Wrap the method `name` to gather parameters before, and reduce gradients after its loss."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    method: Callable[..., Any] = getattr(denoiser, name)

    def with_arguments(arguments: _Arguments) -> Any:
        return method(*arguments.args, **arguments.kwargs)

    setattr(denoiser, name, with_arguments)
    register_fsdp_forward_method(denoiser, name)
    gathered: Callable[..., Any] = getattr(denoiser, name)
    setattr(denoiser, name, lambda *args, **kwargs: gathered(_Arguments(args=args, kwargs=kwargs)))


def release(denoiser: Denoiser) -> None:
    """Free parameters left gathered by a forward pass without backward (an evaluation), so that optimizer and
    checkpoints see shards again.
    """
    for module in denoiser.modules():
        reshard = getattr(module, "reshard", None)  # added by FSDP
        if reshard is not None:
            reshard()


def _use_float8(denoiser: Denoiser) -> None:
    """Convert the blocks' linear layers to float8, forward and backward, with one scale per tensor."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    is_gpu = torch.cuda.is_available()
    # Padded, since the gradient of a weight is a product over an arbitrary number of positions.
    config = Float8LinearConfig(pad_inner_dim=True, emulate=not is_gpu)

    def is_in_block(module: nn.Module, name: str) -> bool:
        return name.startswith("blocks.") and isinstance(module, nn.Linear)

    convert_to_float8_training(denoiser, module_filter_fn=is_in_block, config=config)
