"""Whether the GPU's path computes what the CPU's does: the same seed and batches, in fp32 to rounding, in bf16
nearly; each attention backend and the head against float64; the same bits again; what a bad gradient does.
"""

import os

# Products of matrices keep an order with it; read when the GPU is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from setting import Part, Setting, one_device
from torch import Tensor

from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.stream import SpanSlack, TrainingStream
from trimask.data.tokens import Ragged, TokenSource
from trimask.model.attention import AttentionBackend, Documents, attend
from trimask.model.denoiser import DenoiserConfig
from trimask.model.head import weighted_cross_entropy
from trimask.model.recompute import Recompute
from trimask.training.compute import ComputeConfig, Precision
from trimask.training.corruption import Corruption, ObjectiveConfig
from trimask.training.distributed import World
from trimask.training.loop import train
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig, NonFinite
from trimask.training.placement import place
from trimask.training.step import DenoiserStep
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.modality import Modality, Task

VOCABULARY = Vocabulary(
    text=CodeSpace(num_codebooks=1, codebook_size=200, has_end=True),
    image=CodeSpace(num_codebooks=2, codebook_size=64, has_end=False, grid=(4, 4), layout=Parallel()),
    audio=CodeSpace(num_codebooks=2, codebook_size=32, has_end=True, layout=Parallel()),
)
CONFIG = DenoiserConfig(width=128, depth=3, num_heads=2)
UPDATES = 3
CPU = torch.device("cpu")
FP32, BF16 = ComputeConfig(precision=Precision.FP32), ComputeConfig(precision=Precision.BF16)


def run(setting: Setting, part: Part) -> None:
    reference = Outcome.of(World(), ComputeConfig())
    checks: dict[str, Callable[[World], dict[str, Any]]] = {
        "masks": lambda world: _masks(world.device),
        "fp32": lambda world: _compared(world, FP32, reference, loss=1e-4, gradients=1e-3, weights=2e-2),
        "bf16": lambda world: _compared(world, BF16, reference, loss=2e-2, gradients=1e-1, weights=None),
        "bf16_passes_and_recomputation": lambda world: _compared(
            world,
            replace(BF16, micro_batch=3, recompute=Recompute.SELECTIVE),
            reference,
            loss=2e-2,
            gradients=1e-1,
            weights=None,
        ),
        "head_bf16": _head,
        "skipped_update": _skipped,
        "checkpoint_from_device_to_cpu": lambda world: _moved(world, World()),
        "checkpoint_from_cpu_to_device": lambda world: _moved(World(), world),
        "same_bits_fp32": lambda world: _same_bits(world, FP32),
        "same_bits_bf16_deterministic_algorithms": lambda world: _same_bits(world, BF16, deterministic=True),
    }
    with one_device(setting) as world:
        for name, check in checks.items():
            part.attempt(f"checks/{name}", lambda check=check: check(world))
            _failed_is_not_passed(part, name)
        for name, backend, dtype, tolerance in (
            ("attention_loop_fp32", AttentionBackend.LOOP, torch.float32, 1e-4),
            ("attention_flex_fp32", AttentionBackend.FLEX, torch.float32, 1e-3),
            ("attention_loop_bf16", AttentionBackend.LOOP, torch.bfloat16, 2e-2),
            ("attention_varlen_bf16", AttentionBackend.VARLEN, torch.bfloat16, 2e-2),
            ("attention_flex_bf16", AttentionBackend.FLEX, torch.bfloat16, 2e-2),
        ):
            part.attempt(
                f"checks/{name}", lambda b=backend, d=dtype, t=tolerance: _attention(world.device, b, d, t)
            )
            _failed_is_not_passed(part, name)
        # Not a check: without deterministic algorithms the flash kernel adds up in any order.
        part.attempt("bf16_bits_by_default", lambda: _same_bits(world, BF16))


def _failed_is_not_passed(part: Part, name: str) -> None:
    found = part.found["checks"][name]
    if "error" in found:
        part.note(f"checks/{name}/passed", False)


def make_stream() -> TrainingStream:
    """Text, pictures and speech of different lengths."""
    draw = np.random.default_rng(0)
    sources = {}
    for name, other in (("texts", None), ("pictures", Modality.IMAGE), ("speech", Modality.AUDIO)):
        codes = {Modality.TEXT: Ragged.of([draw.integers(0, 200, (n, 1)) for n in draw.integers(2, 60, 20)])}
        if other is Modality.IMAGE:
            codes[other] = Ragged.of([draw.integers(0, 64, (16, 2)) for _ in range(20)])
        elif other is Modality.AUDIO:
            codes[other] = Ragged.of([draw.integers(0, 32, (n, 2)) for n in draw.integers(3, 40, 20)])
        sources[name] = TokenSource(name=name, codes=codes, groups=np.arange(20))
    components = (
        Component(source="texts", task=Task.TEXT, weight=1.0),
        Component(source="pictures", task=Task.TEXT_TO_IMAGE, weight=1.0),
        Component(source="speech", task=Task.TEXT_TO_SPEECH, weight=1.0),
    )
    mixture = Mixture(MixtureConfig(components=components, block_length=16), sources, seed=3)
    return TrainingStream(mixture, VOCABULARY, slack=SpanSlack(), physical_batch=13, row_length=160)


def make_step(world: World, compute: ComputeConfig, non_finite: NonFinite = NonFinite.STOP) -> DenoiserStep:
    return DenoiserStep(
        place(CONFIG, VOCABULARY, seed=0, compute=compute, world=world),
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=1e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=2 * UPDATES,
        seed=5,
        logical_batch=6,
        micro_batch=compute.micro_batch,
        non_finite=non_finite,
        world=world,
    )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Of a few updates: their metrics; weights at first, and gradients and weights at last, on the host."""

    rows: list[dict[str, float]]
    first: dict[str, Tensor]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, world: World, compute: ComputeConfig) -> "Outcome":
        step, stream = make_step(world, compute), make_stream()
        first = _weights(step)
        rows = []
        for number in range(UPDATES):
            metrics = step(stream.batch(number))
            rows.append({name: float(value) for name, value in metrics.items()})
        named = step.denoiser.named_parameters()
        gradients = {name: _whole(p.grad) for name, p in named if p.grad is not None}
        return cls(rows=rows, first=first, gradients=gradients, weights=_weights(step))


def _weights(step: DenoiserStep) -> dict[str, Tensor]:
    return {name: _whole(p) for name, p in step.denoiser.named_parameters()}


def _whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    # A copy: updates write in place.
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu().clone()


def _relative(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """‖found − expected‖ / ‖expected‖ over all tensors."""
    assert found.keys() == expected.keys()
    pairs = [(found[name].double(), expected[name].double()) for name in expected]
    off = sum(float((a - b).square().sum()) for a, b in pairs)
    return (off / max(sum(float(b.square().sum()) for _, b in pairs), 1e-300)) ** 0.5


def _compared(
    world: World,
    compute: ComputeConfig,
    reference: Outcome,
    *,
    loss: float,
    gradients: float,
    weights: float | None,
) -> dict[str, Any]:
    """Three updates against those of the plain CPU in fp32; bounds on relative differences. That of weights is
    relative to how far they moved, and only of use in fp32: the moments turn small gradients' signs.
    """
    found = Outcome.of(world, compute)
    figures = max(
        abs(row[name] - value) / max(abs(value), 1e-9)
        for row, expected in zip(found.rows, reference.rows, strict=True)
        for name, value in expected.items()
        if name != "grad_norm"
    )
    moved = {name: found.weights[name] - found.first[name] for name in found.weights}
    expected_move = {name: reference.weights[name] - reference.first[name] for name in reference.weights}
    off = {
        "metrics": figures,
        "gradients": _relative(found.gradients, reference.gradients),
        "weights": _relative(moved, expected_move),
    }
    limits = {"metrics": loss, "gradients": gradients} | ({} if weights is None else {"weights": weights})
    return {
        "passed": all(off[name] <= limit for name, limit in limits.items()),
        "relative_difference": off,
        "tolerance": limits,
        "same_start": all(torch.equal(found.first[n], reference.first[n]) for n in reference.first),
        "loss": [row["loss"] for row in found.rows],
        "cpu_loss": [row["loss"] for row in reference.rows],
    }


def _masks(device: torch.device) -> dict[str, Any]:
    """The step draws them on the host; drawn on the device they are the same."""
    batch = make_stream().batch(0)
    views = []
    for place_of_it in (CPU, device):
        corruption = Corruption(ObjectiveConfig(), VOCABULARY, seed=5, device=place_of_it, logical_batch=6)
        views.append(corruption.views(batch.to(place_of_it), 0)[0])
    host, there = views
    is_same = torch.equal(host.z_t, there.z_t.cpu()) and torch.equal(host.masked, there.masked.cpu())
    weight = float((host.weight - there.weight.cpu())[host.masked].abs().max())
    return {"passed": is_same and weight < 1e-9, "largest_weight_difference": weight}


def _head(world: World) -> dict[str, Any]:
    """The chunked head in bf16 against plain autograd in float64 over the same bf16 numbers."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 64, generator=draw).to(torch.bfloat16)
    weight = torch.randn(VOCABULARY.size, 64, generator=draw).mul(0.3).to(torch.bfloat16)
    ranges = VOCABULARY.ranges
    range_index = torch.randint(len(ranges), (300,), generator=draw)
    target = torch.tensor(
        [ranges[r].start + (7 * i) % ranges[r].size for i, r in enumerate(range_index.tolist())]
    )
    scale = torch.rand(300, generator=draw)
    exact = [x.double().requires_grad_() for x in (hidden, weight)]
    loss = torch.zeros((), dtype=torch.float64)
    for r in ranges:
        here = (range_index == r.index).nonzero()[:, 0]
        logits = exact[0][here] @ exact[1][r.start : r.stop].T
        terms = torch.nn.functional.cross_entropy(logits, target[here] - r.start, reduction="none")
        loss = loss + (terms * scale[here]).sum()
    loss.backward()
    off = {}
    for chunk_rows in (None, 16):
        leaves = [x.to(world.device, copy=True).requires_grad_() for x in (hidden, weight)]
        found, _ = weighted_cross_entropy(
            leaves[0],
            leaves[1],
            position=torch.arange(300),
            target=target,
            range_index=range_index,
            scale=scale,
            ranges=ranges,
            chunk_rows=chunk_rows,
        )
        found.backward()
        named = {"hidden": leaves[0].grad, "weight": leaves[1].grad, "loss": found.detach()}
        right = {"hidden": exact[0].grad, "weight": exact[1].grad, "loss": loss.detach()}
        for name, value in named.items():
            assert value is not None
            off[f"{name}, chunks of {chunk_rows}"] = _relative({"": value.cpu()}, {"": right[name]})  # pyright: ignore
    return {"passed": max(off.values()) < 1e-2, "relative_difference": off, "tolerance": 1e-2}


def _attention(
    device: torch.device, backend: AttentionBackend, dtype: torch.dtype, tolerance: float
) -> dict[str, Any]:
    """Output and gradients over documents of mixed lengths, against the loop in float64 on the CPU."""
    if device.type == "cpu" and backend is AttentionBackend.VARLEN:
        return {"impossible": "the variable-length kernel has no CPU form"}
    lengths = [1, 3, 64, 127, 200, 129] if device.type == "cpu" else [1, 3, 64, 127, 700, 129, 1091]
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(sum(lengths), 4, 64, generator=draw).to(dtype) for _ in range(4)]
    boundaries = torch.tensor([0, *lengths]).cumsum(0)

    def outcome(backend: AttentionBackend, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        has_backward = device.type != "cpu" or backend is not AttentionBackend.FLEX
        q, k, v = (x.to(device, dtype, copy=True).requires_grad_(has_backward) for x in given[:3])
        attended = attend(q, k, v, Documents.of(boundaries, backend, device))
        if not has_backward:
            return {"output": attended}
        attended.backward(given[3].to(device, dtype))
        named = {"output": attended, "q": q.grad, "k": k.grad, "v": v.grad}
        return {name: x.detach().cpu() for name, x in named.items() if x is not None}

    right = outcome(AttentionBackend.LOOP, CPU, torch.float64)
    found = outcome(backend, device, dtype)
    off = {name: _relative({"": found[name]}, {"": right[name]}) for name in found}
    return {"passed": max(off.values()) < tolerance, "relative_difference": off, "tolerance": tolerance}


def _same_bits(world: World, compute: ComputeConfig, *, deterministic: bool = False) -> dict[str, Any]:
    """Whether the same updates, from the start, give the same bits."""
    with _deterministic(deterministic):
        one, other = (Outcome.of(world, compute) for _ in range(2))
    differ = [name for name in one.weights if not torch.equal(one.weights[name], other.weights[name])]
    return {
        "passed": not differ,
        "differ": len(differ),
        "first_to_differ": differ[:4],
        "losses_differ": one.rows != other.rows,
        "relative_difference": _relative(one.weights, other.weights),
    }


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(wanted)
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = before


def _skipped(world: World) -> dict[str, Any]:
    """A gradient that is not a number leaves weights, moments and counts as they are; the next one moves
    them.
    """
    step, stream = make_step(world, BF16, NonFinite.SKIP), make_stream()

    def state() -> dict[str, Tensor]:
        return {name: _whole(t) for name, t in step.state_dict().items() if name != "step"}

    step(stream.batch(0))
    before, objective = state(), step.objective
    step.objective = replace(objective, modality_weights=(float("nan"),) * 3)
    bad = step(stream.batch(1))
    after = state()
    step.objective = objective
    good = step(stream.batch(1))
    unmoved = [name for name, tensor in state().items() if torch.equal(tensor, after[name])]
    found = {
        "skipped": [float(bad["skipped"]), float(good["skipped"])],
        "changed_by_the_bad": [n for n in before if not torch.equal(before[n], after[n])][:4],
        "unmoved_by_the_good": unmoved[:4],
    }
    return {
        "passed": found == {"skipped": [1, 0], "changed_by_the_bad": [], "unmoved_by_the_good": []},
        **found,
    }


def _moved(start: World, end: World) -> dict[str, Any]:
    """Half of a run in `start`, in fp32; from its checkpoint the rest in `end`; against the whole in one."""
    finals = []
    for worlds in ((start, end), (World(), World())):
        with tempfile.TemporaryDirectory() as folder:
            for world, num_steps in zip(worlds, (UPDATES, 2 * UPDATES), strict=True):
                step, stream = make_step(world, FP32), make_stream()
                train(
                    step,
                    lambda first, stream=stream: stream.batches(first),
                    out=Path(folder) / "run",
                    config={},
                    num_steps=num_steps,
                    checkpoint_every=UPDATES,
                    resume=True,
                    is_quiet=True,
                    world=world,
                )
            finals.append(_weights(step))  # pyright: ignore[reportPossiblyUnboundVariable]
    off = _relative(*finals)
    return {"passed": off < 1e-3, "relative_difference": off, "tolerance": 1e-3}
