"""Activation recomputation: what a block recomputes in backward to save memory."""

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts


class Recompute(enum.Enum):
    """Nothing; all but matrix products and attention; all but the block's input."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


def run(recompute: Recompute, function: Callable[..., Tensor], h: Tensor, **arguments: Any) -> Tensor:
    """Call `function(h, **arguments)`, recomputing in backward what `recompute` selects."""
    if recompute is Recompute.NONE or not torch.is_grad_enabled():
        return function(h, **arguments)
    contexts = {}
    if recompute is Recompute.SELECTIVE:
        contexts["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    # Blocks draw no global random numbers, so no state needs restoring.
    return checkpoint(function, h, use_reentrant=False, preserve_rng_state=False, **contexts, **arguments)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Keep matrix products and attention, which take the time; recompute the rest, which takes the memory."""
    name = str(operation)
    is_kept = name.startswith(_KEPT)
    return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE


_KEPT = (
    "aten.mm.",
    "aten._scaled_mm.",
    "aten._scaled_dot_product_",
    "torch_attn._varlen_attn.",
    "flex_attention",
)
