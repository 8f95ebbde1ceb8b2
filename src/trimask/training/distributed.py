"""The processes of a run: one, or as many as torchrun started, each with a device of its own."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
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

# A process that hangs is given up after this.
_TIMEOUT = timedelta(minutes=30)
# Hosts may wait longer: for the main process to encode or check data.
_HOST_TIMEOUT = timedelta(hours=24)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class World:
    """The processes that run the same updates together.

    Attributes:
        rank: of this process, 0 … size - 1.
        size: processes.
        device: of this process.
        mesh: devices over which parameters are sharded (last dimension) and, with two dimensions, replicated
            (the first); None where there is one process that shards nothing.
        control: group for decisions on the host; None in a world of one.
        background: another, for the thread that writes checkpoints: two threads must not share a group.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    mesh: DeviceMesh | None = None
    control: dist.ProcessGroup | None = None
    background: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes what all share, and talks to the user."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds in any process: all get the same answer. Waits for all, on the host."""
        return bool(self.largest(int(flag)))

    def largest(self, value: int) -> int:
        """The largest `value` of any process. Waits for all, on the host."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX))

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values`, on the host, over all processes. Waits for all, on the host."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.control is None:
            return values
        found = values.clone()
        dist.all_reduce(found, operation, group=self.control)
        return found

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, in place, on its device, without waiting for a GPU."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def main_first(self, work: Callable[[], T]) -> T:
        """`work()` in the main process, then in all others: what the first one keeps, the rest find. Its
        OSError or UserError is raised in all.
        """
        found: list[T] = []
        self.main_only(lambda: found.append(work()))
        return found[0] if found else work()

    def gather(self, value: Any) -> list[Any]:
        """The plain `value` of each process, in order of rank, on the host."""
        if self.control is None:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def each(self, action: Callable[[], Any]) -> list[Any]:
        """The plain result of `action` in each process, in order of rank; an OSError or UserError of any is
        raised in all.
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

    def main_only(self, action: Callable[[], Any]) -> Any:
        """The plain result of `action`, done by the main process alone; its OSError or UserError is raised
        in all.
        """
        return self.each(lambda: action() if self.is_main else None)[0]


ALONE = World()


def num_processes() -> int:
    """Processes that torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _meeting_place(rank: int, size: int) -> Store:
    """Where the processes tell each other their addresses.

    torchrun keeps one store over restarts, so that processes that were started again can read the addresses
    of dead ones and wait for them (pytorch issue 135712): each life gets names of its own. How often they
    were started again is the same in all processes of one node, but not of several: those need
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of torchrun.
    """
    if size == 1:
        return dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]  (documented)
    store, _, _ = next(rendezvous("env://", rank, size, timeout=_TIMEOUT))
    store.set_timeout(_TIMEOUT)
    return PrefixStore(f"life_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def open_world(device: str | None = None, *, replicas: int = 1) -> Iterator[World]:
    """Join the processes that torchrun started, or be alone.

    On GPUs, process `LOCAL_RANK` takes the GPU of that number; a single process shards over itself alone, so
    that precision and sharding are one path there. On CPUs they talk over gloo.

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
    """A group of all processes that talks from host to host."""
    group = dist.new_group(backend="gloo", timeout=_HOST_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)
    return group
