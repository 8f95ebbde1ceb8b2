"""Small real training runs in processes of their own, for a test to kill; see `_serve`."""

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from trimask import rng
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

NUM_STEPS = 80


class RegressionStep:
    """Fits a two-layer network to a fixed function; its whole state is in `state_dict`."""

    def __init__(self) -> None:
        self.config = AdamWConfig(learning_rate=1e-2)
        self.schedule = WarmupCosine(warmup_fraction=0.1)
        self.model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                keys = rng.fold(rng.key(0, name), torch.arange(1))
                parameter.copy_((rng.uniform(keys, parameter.numel()) - 0.5).view_as(parameter))
        self.optimizer = build_adamw(parameter_groups(self.model.named_parameters()), self.config)
        self.updates = 0

    def __call__(self, batch: Tensor) -> dict[str, Tensor | float]:
        self.updates += 1
        set_learning_rate(self.optimizer, self.schedule.factor(self.updates / NUM_STEPS))
        loss = (self.model(batch).squeeze(-1) - batch.sin().sum(-1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = clip_gradients(self.optimizer, self.config.clip_norm)
        self.optimizer.step()
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


def batches(start: int) -> Iterator[Tensor]:
    for index in range(start, NUM_STEPS):
        keys = rng.fold(rng.key(1, "batch"), torch.arange(16) + 16 * index)
        yield (rng.uniform(keys, 8) * 4 - 2).float()


def run(out: Path, *, resume: bool, checkpoint_every: int = 1, num_steps: int = NUM_STEPS) -> TrainResult:
    # log_every is no multiple of checkpoint_every, so that a resume falls between two log points.
    return train(
        RegressionStep(),
        batches,
        out=out,
        config={"num_steps": num_steps},
        num_steps=num_steps,
        checkpoint_every=checkpoint_every,
        log_every=7,
        resume=resume,
        evaluate=lambda step: {"step_squared": float(step**2)},
        evaluate_every=10,
    )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _serve() -> None:
    """For each directory named on stdin: forks a run, prints its process id, then its exit code.

    Forked before anything has run, each is as fresh as a new interpreter, without importing torch again.
    """
    for line in iter(sys.stdin.readline, ""):
        process = os.fork()
        if process == 0:
            _run_and_exit(Path(line.rstrip("\n")))
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run_and_exit(out: Path) -> NoReturn:
    try:
        run(out, resume=True)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    RegressionStep()  # torch's first optimizer imports much: once here, not in each fork
    _serve()
