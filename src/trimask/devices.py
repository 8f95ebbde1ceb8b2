"""Devices: where tensors live, and a description of the machine to store beside any figure measured on it."""

import os
import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimask.errors import UserError


def pick(name: str | None = None) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1"); None takes CUDA where there is one, else the CPU.

    Raises `UserError` for a device that this machine does not have or that this project does not use.
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
            raise UserError(f"device {name!r}: GPUs here: {torch.cuda.device_count()}; use cuda:0 or cpu")
    return device


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; from the host to a GPU, the host does not wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def gather(tensor: Tensor) -> Tensor:
    """A sharded tensor as a whole, which takes all of its processes; any other as it is."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def describe(device: torch.device | None = None) -> dict[str, Any]:
    """Device, versions and threads, as JSON values: what a result file needs for its figures to mean
    something later.
    """
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
