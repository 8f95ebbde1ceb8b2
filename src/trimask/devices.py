"""Choose devices, move tensors, and describe the machine (to be stored with every measurement)."""

import os
import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimask.errors import UserError


def pick(name: str | None = None) -> torch.device:
    """Return the device called `name` ("cpu", "cuda", "cuda:1"); None picks CUDA if available, else the CPU.

    Raises:
        UserError: this machine does not have the device, or trimask does not support it.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported: use cpu, cuda or cuda:N")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name!r}: this PyTorch ({torch.__version__}) sees no CUDA GPU; use cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs; use cuda:0 or cpu"
            )
    return device


def count_gpus() -> int:
    """Return the number of CUDA GPUs that this process sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy `tensor` to `device`; from host to GPU asynchronously, through pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def gather(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor into a whole one (a collective call); return any other tensor unchanged."""
    full_tensor = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else full_tensor()


def describe(device: torch.device | None = None) -> dict[str, Any]:
    """Return device, versions and threads as JSON values, for result files: measurements depend on them."""
    device = pick() if device is None else device
    on_cuda = device.type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device)
        if on_cuda
        else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "gpu_runtime": str(getattr(torch.version, "cuda", None)) if on_cuda else None,
        "numpy": np.__version__,
        "platform": platform.platform(aliased=True, terse=True),
    }
