"""A denoiser on a mesh of one process, and what would make a GPU wait."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.cuda._utils import _get_device_index
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]  (documented)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp._fully_shard import _fsdp_state
from torch.distributed.tensor import DTensor
from torch.distributed.utils import _to_kwargs

from training.distributed_steps import CONFIG, VOCABULARY, make_stream
from trimask import devices
from trimask.model.attention import AttentionBackend
from trimask.model.denoiser import Denoiser
from trimask.model.recompute import Recompute
from trimask.training.compute import ComputeConfig, Precision
from trimask.training.corruption import ObjectiveConfig
from trimask.training.distributed import World, open_world
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.placement import check, place
from trimask.training.step import DenoiserStep


def make_step(denoiser: Denoiser, world: World) -> DenoiserStep:
    return DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=5e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=4,
        seed=5,
        targets=make_stream().target_tokens(),
        tasks=make_stream().tasks,
        micro_batch=4,
        world=world,
    )


@pytest.fixture
def sharded() -> Iterator[World]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
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

    def moving(
        state: _fsdp_state.FSDPState, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ):
        moved = _to_kwargs(args, kwargs, torch.device("meta"), False)
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


def test_bf16_on_one_cpu_process_is_that_of_sharded_parameters(sharded: World) -> None:
    """FSDP copies the masters in its own way; the updates are the same to the last bit."""
    compute = ComputeConfig(precision=Precision.BF16)
    plain, mesh = (place(CONFIG, VOCABULARY, seed=0, compute=compute, world=w) for w in (World(), sharded))
    exact = place(CONFIG, VOCABULARY, seed=0, compute=ComputeConfig(), world=World())
    steps = [make_step(plain, World()), make_step(mesh, sharded), make_step(exact, World())]
    for number in range(3):
        found, expected, in_fp32 = (step(make_stream().batch(number)) for step in steps)
        assert float(found["loss"]) == float(expected["loss"])
        assert float(found["loss"]) == pytest.approx(float(in_fp32["loss"]), rel=0.02)
    assert found["loss"] != in_fp32["loss"]  # it is computed in bf16
    shards = dict(mesh.named_parameters())
    for name, master in plain.named_parameters():
        shard = shards[name]
        assert isinstance(shard, DTensor) and master.dtype == torch.float32
        assert torch.equal(master, shard.full_tensor())


@pytest.mark.parametrize("recompute", [Recompute.SELECTIVE, Recompute.FULL])
def test_bf16_on_one_cpu_process_recomputes_what_it_computed(recompute: Recompute) -> None:
    compute = ComputeConfig(precision=Precision.BF16)
    settings = compute, replace(compute, recompute=recompute)
    kept, again = (place(CONFIG, VOCABULARY, seed=0, compute=each, world=World()) for each in settings)
    steps = make_step(kept, World()), make_step(again, World())
    for number in range(2):
        expected, found = (step(make_stream().batch(number)) for step in steps)
        assert float(found["loss"]) == float(expected["loss"])
        assert float(found["grad_norm"]) == float(expected["grad_norm"])
    for master, other in zip(kept.parameters(), again.parameters(), strict=True):
        assert torch.equal(master, other)


def test_a_cpu_without_bf16_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compute = ComputeConfig(precision=Precision.BF16)
    for found, told in (({"avx512_bf16": True}, ""), ({"amx_bf16": False}, "many times slower")):
        caplog.clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        check(compute, World())
        assert (told in caplog.text) and bool(told) == bool(caplog.text)
    caplog.clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # older versions of torch lack it
    check(compute, World())
    assert not caplog.text


def test_one_process_takes_a_gpu_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch sets no device that has none."""
    taken: list[int] = []
    monkeypatch.setattr(devices, "pick", lambda name: torch.device(name or "cuda"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: taken.append(_get_device_index(device)))
    monkeypatch.setattr(dist, "init_process_group", Mock(side_effect=InterruptedError))
    for name in (None, "cuda", "cuda:3"):
        with pytest.raises(InterruptedError), open_world(name):
            pass
    assert taken == [0, 0, 3]


@pytest.mark.parametrize(
    ("compute", "device", "message"),
    [
        (ComputeConfig(precision=Precision.FLOAT8), "cpu", "precision float8 on one CPU process"),
        (ComputeConfig(attention=AttentionBackend.VARLEN), "cpu", "attention varlen needs a GPU"),
        (ComputeConfig(attention=AttentionBackend.FLEX), "cpu", "attention flex needs a GPU"),
        (
            ComputeConfig(precision=Precision.FP32, attention=AttentionBackend.VARLEN),
            "cuda",
            "attention varlen computes in half precision",
        ),
    ],
)
def test_what_a_device_has_no_use_for_is_told(compute: ComputeConfig, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(compute, World(device=torch.device(device)))


def test_a_missing_library_is_told_with_the_extra(sharded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install trimask\[float8\]"):
        check(ComputeConfig(precision=Precision.FLOAT8), sharded)
