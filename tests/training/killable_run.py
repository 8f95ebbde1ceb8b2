"""Small real training runs in processes of their own, for a test to kill: see `_serve`, `_run_as_worker`."""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from trimask import rng
from trimask.training.distributed import World, open_world
from trimask.training.loop import TrainResult, train
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import (
    AdamWConfig,
    build_adamw,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)

NUM_STEPS = int(os.environ["NUM_STEPS"])


class RegressionStep:
    """Fits a two-layer network to a fixed function; its whole state is in `state_dict`.

    In several processes each takes its share of the rows, and the network is sharded. `faults` happen to the
    last process, each at its update.
    """

    def __init__(self, world: World, faults: Mapping[int, str] = MappingProxyType({})) -> None:
        self.world, self.faults = world, faults
        self.config = AdamWConfig(learning_rate=1e-2)
        self.schedule = WarmupCosine(warmup_fraction=0.1)
        self.model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                keys = rng.fold(rng.key(0, name), torch.arange(1))
                parameter.copy_((rng.uniform(keys, parameter.numel()) - 0.5).view_as(parameter))
        if world.mesh is not None:
            fully_shard(self.model, mesh=world.mesh)
        self.optimizer = build_adamw(parameter_groups(self.model.named_parameters()), self.config)
        self.updates = 0

    def __call__(self, batch: Tensor) -> dict[str, Tensor | float]:
        self.updates += 1
        if self.updates in self.faults and self.world.rank == self.world.size - 1:
            _happen(self.faults[self.updates])
        set_learning_rate(self.optimizer, self.schedule.factor(self.updates / NUM_STEPS))
        rows = batch[self.world.rank :: self.world.size]
        loss = (self.model(rows).squeeze(-1) - rows.sin().sum(-1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = clip_gradients(self.optimizer, self.config.clip_norm)
        if isinstance(grad_norm, DTensor):
            grad_norm = grad_norm.full_tensor()
        self.optimizer.step()
        loss = self.world.add(loss.detach().clone()) / self.world.size
        return {"loss": loss, "grad_norm": grad_norm, "tokens": float(batch.shape[0])}

    def state_dict(self) -> dict[str, Tensor]:
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        optimizer = {
            f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()
        }
        return model | optimizer | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        parts = {prefix: _under(tensors, prefix) for prefix in ("model.", "optimizer.")}
        self.model.load_state_dict(parts["model."])
        load_optimizer_tensors(self.optimizer, parts["optimizer."])
        self.updates = int(tensors["updates"])


def _happen(fault: str) -> None:
    if fault == "ENOSPC":
        FileSystem.create_stream = _full_disk  # pyright: ignore[reportAttributeAccessIssue]  (the fault)
    else:
        os.kill(os.getpid(), signal.Signals[fault])


@contextmanager
def _full_disk(self: FileSystem, path: str | os.PathLike[str], mode: str) -> Iterator[IO[Any]]:
    with open("/dev/full", mode) as stream:
        yield stream


def batches(start: int) -> Iterator[Tensor]:
    for index in range(start, NUM_STEPS):
        keys = rng.fold(rng.key(1, "batch"), torch.arange(16) + 16 * index)
        yield (rng.uniform(keys, 8) * 4 - 2).float()


def run(out: Path, step: RegressionStep) -> TrainResult:
    # log_every is no multiple of checkpoint_every, so that a resume falls between two log points.
    return train(
        step,
        batches,
        out=out,
        config={"num_steps": NUM_STEPS},
        num_steps=NUM_STEPS,
        checkpoint_every=1,
        log_every=7,
        resume=True,
        evaluate=lambda step: {"step_squared": float(step**2)},
        evaluate_every=10,
        world=step.world,
    )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _serve() -> None:
    """For each line `processes update fault directory` on stdin: forks a run, prints the process ids, then
    the exit codes.

    Forked before anything has run, each is as fresh as a new interpreter, without importing torch again.
    """
    for line in iter(sys.stdin.readline, ""):
        size, update, fault, out = line.rstrip("\n").split(" ", 3)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = []
        for rank in range(int(size)):
            process = os.fork()
            if process == 0:
                variables = {
                    "RANK": rank,
                    "WORLD_SIZE": size,
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                }
                os.environ.update({name: str(value) for name, value in variables.items()})
                _run_and_exit(Path(out), {int(update): fault})
            processes.append(process)
        print(*processes, flush=True)
        print(*(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes), flush=True)


def _run_and_exit(out: Path, faults: Mapping[int, str]) -> NoReturn:
    try:
        with open_world("cpu") as world:
            run(out, RegressionStep(world, faults))
    except BaseException as error:
        traceback.print_exc()
        os._exit(2 if "No space left on device; the last whole checkpoint is" in str(error) else 1)
    os._exit(0)


def _run_as_worker(out: Path) -> None:
    """One of torchrun's workers: the last of them is killed in its first two lives."""
    life = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    with open_world("cpu") as world:
        run(out, RegressionStep(world, [{10: "SIGKILL"}, {25: "SIGKILL"}, {}][life]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:]:
        _run_as_worker(Path(sys.argv[1]))
    else:
        RegressionStep(World())  # torch's first optimizer imports much: once here, not in each fork
        _serve()
