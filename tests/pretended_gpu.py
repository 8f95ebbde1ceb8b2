"""A GPU by name: tensors that lie on the host, say that they are on `cuda`, and tell when the host would
wait.

Python sees every operation (a `TorchFunctionMode`), and what it is made of (a `TorchDispatchMode`). A wait is
whatever needs a number that only the device has: `.item()`, `.tolist()`, `.cpu()`, `nonzero` and all whose
shape depends on values; and copies to the device that are not from pinned memory and asynchronous. As on a
GPU, tensors of both sides in one operation are an error. Kernels that wait inside are not seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

CUDA = torch.device("cuda")
_READ = """item tolist numpy cpu __bool__ __int__ __float__ __index__ __complex__ __array__ __contains__
__repr__ __format__ is_nonzero""".split()
_OF_VALUES = """_local_scalar_dense nonzero nonzero_numpy masked_select _unique _unique2 unique_dim
unique_consecutive unique_dim_consecutive bincount equal argwhere histc""".split()


class WaitError(RuntimeError):
    """The host would wait for the device."""


class OnDevice(Tensor):
    """A tensor of the pretended GPU."""


class PretendedGPU(TorchFunctionMode):
    """Within it, tensors go to `cuda`, and come back.

    Attributes:
        waits: the operations that waited.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._left: int | None = None
        self._pinned: set[int] = set()
        self._alive: list[Tensor] = []  # so that no id of a pinned tensor comes again

    @contextmanager
    def waiting(self, most: int) -> Iterator[None]:
        """Raise WaitError where the host would wait more than `most` times."""
        self._left = most
        try:
            yield
        finally:
            self._left = None

    def place(self, module: nn.Module) -> None:
        """Move the weights of a module."""
        with self:
            for part in module.modules():
                for name, parameter in list(part.named_parameters(recurse=False)):
                    there = nn.Parameter(parameter.detach().as_subclass(OnDevice), requires_grad=False)
                    part._parameters[name] = there

    def _wait(self, what: str) -> None:
        self.waits.append(what)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise WaitError(f"{what} waits for the device")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.__name__
        tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        is_here = any(isinstance(x, OnDevice) for x in tensors)
        owner = getattr(func, "__self__", None)
        if is_here and owner in (Tensor.device, Tensor.is_cuda):
            return CUDA if owner is Tensor.device else True
        if name == "pin_memory":
            copy = func(*args, **kwargs) if torch.cuda.is_available() else args[0].clone()
            self._pinned.add(id(copy))
            self._alive.append(copy)
            return copy
        if name == "to":
            moved, is_waiting, args, kwargs = self._destination(args, kwargs)
            if is_waiting:
                self._wait(f"to({moved})")
            found = func(*tree_map(_inside, args), **kwargs)
            return found.as_subclass(OnDevice) if moved.type == "cuda" else found
        if name in _READ and is_here:
            self._wait(name)
            return func(*tree_map(_inside, args), **kwargs)
        if not is_here and _is_cuda(kwargs.get("device")):
            if name in ("tensor", "as_tensor", "asarray"):
                self._wait(name)
            return func(*args, **(kwargs | {"device": "cpu"})).as_subclass(OnDevice)
        if not is_here:
            return func(*args, **kwargs)
        if name in ("__getitem__", "__setitem__"):
            self._check_index(name, args[1])
        elif any(not isinstance(x, OnDevice) and x.dim() for x in tensors):
            raise RuntimeError(f"{name} of tensors on the host and on the device")
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = "cpu"
        with _Parts(self._wait):
            found = func(*tree_map(_inside, args), **tree_map(_inside, kwargs))
        return tree_map(_outside, found)

    def _destination(self, args: Any, kwargs: Any) -> tuple[torch.device, bool, Any, Any]:
        """Where `tensor.to(…)` goes, whether that waits, and the same call for the host."""
        tensor, *rest = args
        given = [x for x in [*rest, kwargs.get("device")] if isinstance(x, str | torch.device)]
        here = CUDA if isinstance(tensor, OnDevice) else torch.device("cpu")
        target = torch.device(given[0]) if given else here
        is_quick = bool(kwargs.get("non_blocking")) and id(tensor) in self._pinned
        is_waiting = target.type != here.type and not (target.type == "cuda" and is_quick)
        rest = ["cpu" if isinstance(x, str | torch.device) else x for x in rest]
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        return target, is_waiting, (tensor, *rest), kwargs

    def _check_index(self, name: str, index: Any) -> None:
        for part in index if isinstance(index, tuple) else (index,):
            is_host = isinstance(part, list | np.ndarray) or (
                isinstance(part, Tensor) and not isinstance(part, OnDevice) and part.dim()
            )
            if is_host:
                self._wait(f"{name} by numbers of the host")


class _Parts(TorchDispatchMode):
    """Looks at what an operation is made of."""

    def __init__(self, wait: Callable[[str], None]):
        super().__init__()
        self.wait = wait

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        name = func.name().removeprefix("aten::").split(".")[0]
        by_values = name in _OF_VALUES
        by_values |= name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            by_values |= any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if by_values:
            self.wait(name)
        return func(*args, **kwargs)


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _inside(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, OnDevice) else value


def _outside(value: Any) -> Any:
    return value.as_subclass(OnDevice) if isinstance(value, Tensor) else value
