"""The processes of a run: one, or as many as torchrun started, each with its own device."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from trimask import devices
from trimask.errors import UserError

T = TypeVar("T")

# A hanging process is abandoned after this.
_TIMEOUT = timedelta(minutes=30)
# Hosts may wait longer, while the main process encodes or checks data.
_HOST_TIMEOUT = timedelta(hours=24)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class World:
    """The processes that jointly run the same updates.

    Attributes:
        rank: of this process, 0 … size - 1.
        size: processes.
        device: of this process.
        mesh: devices over which parameters are sharded (last dimension) and, with two dimensions, replicated
            (the first); None for a single unsharded process.
        control: process group for decisions on the host; None for a single process.
        background: another group for the checkpoint thread: threads must not share a group.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    mesh: DeviceMesh | None = None
    control: dist.ProcessGroup | None = None
    background: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes shared files and reports to the user."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether `flag` holds in any process. Waits for all, on the host."""
        return bool(self.largest(int(flag)))

    def largest(self, value: int) -> int:
        """Return the largest `value` of any process. Waits for all, on the host."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes. Waits for all, on the host."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.control is None:
            return values
        found = values.clone()
        dist.all_reduce(found, operation, group=self.control)
        return found

    def add(self, tensor: Tensor) -> Tensor:
        """Sum `tensor` over all processes, in place, on its device, without waiting for a GPU."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process, then in all others, which find what it stored. Raise its OSError
        or UserError in all.
        """
        if not self.is_main:
            self.each(lambda: None)  # waits for the main process
            yield
            return
        error = None
        try:
            yield
        except (OSError, ValueError) as caught:
            error = caught
        self.each(partial(_raise, error))

    def gather(self, value: Any) -> list[Any]:
        """Return the plain `value` of each process, in order of rank, on the host."""
        if self.control is None:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def each(self, action: Callable[[], Any]) -> list[Any]:
        """Return the plain result of `action` in each process, in order of rank; raise an OSError or
        UserError of any in all.
        """
        if self.control is None:
            return [action()]
        result, error = None, None
        try:
            result = action()
        except (OSError, ValueError) as caught:
            error = caught
        outcomes = self.gather((result, error))
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]

    def run_on_main(self, action: Callable[[], Any]) -> Any:
        """Run `action` in the main process only and return its plain result everywhere; raise its OSError or
        UserError in all.
        """
        return self.each(lambda: action() if self.is_main else None)[0]


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


ALONE = World()


def num_processes() -> int:
    """Return the number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _meeting_place(rank: int, size: int) -> Store:
    """Return the store through which processes exchange addresses.

    torchrun keeps one store across restarts, so restarted processes could read addresses of dead ones and
    wait for them (pytorch issue 135712); each restart therefore gets its own prefix. The restart count agrees
    within one node only: several nodes need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment.
    """
    if size == 1:
        return dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]  (documented)
    store, _, _ = next(rendezvous("env://", rank, size, timeout=_TIMEOUT))
    store.set_timeout(_TIMEOUT)
    return PrefixStore(f"life_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def open_world(device: str | None = None, *, replicas: int = 1) -> Iterator[World]:
    """Join the processes that torchrun started, or run as a single process.

    On GPUs, process `LOCAL_RANK` takes the GPU of that number; even a single process shards (over itself), so
    that GPUs have one code path. On CPUs processes communicate over gloo.

    Raises:
        UserError: an unknown device, or `replicas` that do not divide the processes.
    """
    size, rank = num_processes(), int(os.environ.get("RANK", "0"))
    chosen = devices.pick(device)
    is_cuda = chosen.type == "cuda"
    if replicas < 1 or size % replicas:
        raise UserError(f"replicas {replicas}: must divide the {size} processes")
    if size == 1 and not is_cuda:
        yield World(device=chosen)
        return
    if is_cuda:
        index = int(os.environ["LOCAL_RANK"]) if size > 1 else chosen.index or 0
        chosen = devices.pick(f"cuda:{index}")  # only a device with a number can be set
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if is_cuda else "gloo"
    store = _meeting_place(rank, size)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    try:
        shape, names = (replicas, size // replicas), ("replicate", "shard")
        first = 0 if replicas > 1 else 1  # one dimension is enough without replicas
        yield World(
            rank=rank,
            size=size,
            device=chosen,
            mesh=init_device_mesh(chosen.type, shape[first:], mesh_dim_names=names[first:]),
            control=_hosts(),
            background=_hosts(),
        )
    finally:
        dist.destroy_process_group()


def _hosts() -> dist.ProcessGroup:
    """Create a group of all processes that communicates between hosts."""
    group = dist.new_group(backend="gloo", timeout=_HOST_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)
    return group
