"""A denoiser on a mesh of one process, and what would make a GPU wait."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp._fully_shard import _fsdp_state

from training.distributed_steps import CONFIG, VOCABULARY, make_stream
from trimask.model.denoiser import Denoiser
from trimask.training.compute import ComputeConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.distributed import World
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.placement import place
from trimask.training.step import DenoiserStep


def make_step(denoiser: Denoiser, world: World) -> DenoiserStep:
    return DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=5e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=4,
        seed=5,
        micro_batch=4,
        world=world,
    )


@pytest.fixture
def sharded() -> Iterator[World]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield World(mesh=init_device_mesh("cpu", (1,), mesh_dim_names=("shard",)))
    dist.destroy_process_group()


def test_updates_never_read_the_device() -> None:
    """Nothing can be read from the meta device, nor mixed with what is on the host: a GPU is not waited for,
    and what it needs is sent to it.
    """
    meta = torch.device("meta")
    step = make_step(Denoiser(CONFIG, VOCABULARY).to(meta), World(device=meta))
    for number in range(2):
        metrics = step(make_stream().batch(number))
    figures = [value for value in metrics.values() if isinstance(value, torch.Tensor)]
    assert len(figures) == 5 and all(value.is_meta for value in figures)


def test_sharding_leaves_the_batch_on_the_host(sharded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, FSDP moves tensors among the arguments of a forward method there; a stand-in that moves them
    to the meta device, from which nothing comes back.
    """
    seen: list[str] = []
    gather = _fsdp_state.FSDPState._root_pre_forward

    def moving(state, module, args, kwargs):
        moved = _fsdp_state._to_kwargs(args, kwargs, torch.device("meta"), False)
        seen.extend(type(arg).__name__ for arg in args)
        is_root = isinstance(module, Denoiser)
        return gather(state, module, *((moved[0][0], moved[1][0]) if is_root else (args, kwargs)))

    batch = make_stream().batch(0)
    plain, whole = World(), ComputeConfig()
    expected = make_step(place(CONFIG, VOCABULARY, seed=0, compute=whole, world=plain), plain)(batch)
    monkeypatch.setattr(_fsdp_state.FSDPState, "_root_pre_forward", moving)
    step = make_step(place(CONFIG, VOCABULARY, seed=0, compute=whole, world=sharded), sharded)
    found = step(batch)
    assert "_Arguments" in seen
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-6)
    assert float(found["grad_norm"]) == pytest.approx(float(expected["grad_norm"]), rel=1e-5)
