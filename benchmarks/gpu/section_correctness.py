"""Whether the GPU's path computes what the CPU's does: the same seed and batches, in fp32 to rounding, in
bf16 nearly; each attention backend and the head against float64; the same bits again; a bad gradient.
"""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from cached_passes import cached_passes
from kernels import attention, head, relative
from recorded_passes import recorded_passes
from setting import Part, Setting, deterministic, one_device
from torch import Tensor
from waiting_steps import waiting_steps

from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.stream import SpanSlack, TrainingStream
from trimask.model.attention import AttentionBackend
from trimask.model.denoiser import DenoiserConfig
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

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=200, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=64, has_end=False, grid=(4, 4)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=32, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Parallel()},
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
        "head_bf16": lambda world: head(world.device),
        "skipped_update": _skipped,
        "checkpoint_from_device_to_cpu": lambda world: _moved(world, World()),
        "checkpoint_from_cpu_to_device": lambda world: _moved(World(), world),
        "same_bits_fp32": lambda world: _same_bits(world, FP32, is_deterministic=True),
        "same_bits_bf16": lambda world: _same_bits(world, BF16, is_deterministic=True),
    }
    with one_device(setting) as world:
        for name, check in checks.items():
            part.attempt(f"checks/{name}", lambda check=check: check(world))
            _failed_is_not_passed(part, name)
        _check_attention(part, world.device)
        for dtype in (torch.float32, torch.bfloat16):
            name = f"no_wait_in_a_step_{str(dtype).removeprefix('torch.')}"
            part.attempt(f"checks/{name}", partial(waiting_steps, setting, CONFIG, VOCABULARY, dtype))
            _failed_is_not_passed(part, name)
        # No checks: without deterministic algorithms, attention adds up its gradients in any order.
        for compute in (FP32, BF16):
            assert compute.precision is not None
            name = f"bits_by_default/{compute.precision.value}"
            part.attempt(name, lambda c=compute: _same_bits(world, c, is_deterministic=False))


def _check_attention(part: Part, device: torch.device) -> None:
    kinds = {
        "loop_fp32": (AttentionBackend.LOOP, torch.float32, 1e-3),
        "flex_fp32": (AttentionBackend.FLEX, torch.float32, 1e-3),
        "loop_bf16": (AttentionBackend.LOOP, torch.bfloat16, 2e-2),
        "varlen_bf16": (AttentionBackend.VARLEN, torch.bfloat16, 2e-2),
        "flex_bf16": (AttentionBackend.FLEX, torch.bfloat16, 2e-2),
    }
    prefixes, partial = {"has_prefixes": True}, {"is_partial": True}
    shapes = {
        "attention": ({}, tuple(kinds)),
        # FlexAttention is compiled for each, which takes long: all at once, and last.
        "prefix_attention": (prefixes, ("loop_fp32", "loop_bf16", "varlen_bf16")),
        "partial_attention": (partial, ("loop_fp32", "loop_bf16", "varlen_bf16")),
        "partial_prefix_attention": (prefixes | partial, ("loop_bf16", "varlen_bf16", "flex_bf16")),
    }
    for shape, (options, chosen) in shapes.items():
        for kind in chosen:
            name = f"{shape}_{kind}"
            part.attempt(f"checks/{name}", lambda k=kind, o=options: attention(device, *kinds[k], **o))
            _failed_is_not_passed(part, name)
    stream = make_stream()
    batch = stream.batch(0)
    some = [batch, batch.rows(slice(0, 2)), stream.batch(1)]
    for kind in ("loop_fp32", "varlen_bf16"):
        name = f"recorded_passes_{kind}"
        part.attempt(
            f"checks/{name}",
            lambda k=kind: recorded_passes(CONFIG, VOCABULARY, some, device, *kinds[k]),
        )
        _failed_is_not_passed(part, name)
    for kind in ("loop_fp32", "loop_bf16", "varlen_bf16", "flex_bf16"):
        name = f"cached_passes_{kind}"
        part.attempt(
            f"checks/{name}",
            lambda k=kind: cached_passes(CONFIG, VOCABULARY, batch, device, *kinds[k]),
        )
        _failed_is_not_passed(part, name)


def _failed_is_not_passed(part: Part, name: str) -> None:
    found = part.found["checks"][name]
    if "error" in found:
        part.note(f"checks/{name}/passed", False)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """A source of examples in memory: per modality, the codes of each."""

    name: str
    codes: dict[str, list[np.ndarray]]
    groups: np.ndarray

    @property
    def num_codes(self) -> dict[str, np.ndarray]:
        return {name: np.array([item.size for item in items]) for name, items in self.codes.items()}

    def __len__(self) -> int:
        return len(self.groups)

    def example(self, index: int) -> dict[str, np.ndarray]:
        return {name: items[index].astype(np.int32) for name, items in self.codes.items()}


def make_stream() -> TrainingStream:
    """Text, pictures and speech of different lengths."""
    draw = np.random.default_rng(0)
    sources = {}
    for name, other in (("texts", None), ("pictures", "image"), ("speech", "speech")):
        codes = {"text": [draw.integers(0, 200, (n, 1)) for n in draw.integers(2, 60, 20)]}
        if other == "image":
            codes[other] = [draw.integers(0, 64, (16, 2)) for _ in range(20)]
        elif other == "speech":
            codes[other] = [draw.integers(0, 32, (n, 2)) for n in draw.integers(3, 40, 20)]
        sources[name] = Held(name=name, codes=codes, groups=np.arange(20))
    components = (
        Component(source="texts", task="text", weight=1.0),
        Component(source="pictures", task="text_to_image", weight=1.0),
        Component(source="speech", task="text_to_speech", weight=1.0),
    )
    mixture = Mixture(MixtureConfig(components=components, block_length=16), sources, seed=3)
    return TrainingStream(
        mixture, VOCABULARY, slack=SpanSlack(), text_window=128, physical_batch=13, row_length=160
    )


def make_step(world: World, compute: ComputeConfig, non_finite: NonFinite = NonFinite.STOP) -> DenoiserStep:
    return DenoiserStep(
        place(CONFIG, VOCABULARY, seed=0, compute=compute, world=world),
        objective=ObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=1e-3),
        lr_schedule=WarmupCosine(warmup_fraction=0.1),
        num_steps=2 * UPDATES,
        seed=5,
        targets=make_stream().target_tokens(),
        tasks=make_stream().tasks,
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
    whole: Any = tensor.detach()
    whole = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
    return whole.cpu().clone()  # updates write in place


def _compared(
    world: World,
    compute: ComputeConfig,
    reference: Outcome,
    *,
    loss: float,
    gradients: float,
    weights: float | None,
) -> dict[str, Any]:
    """Updates against those of the plain CPU in fp32; bounds on relative differences. That of weights is
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
        "gradients": relative(found.gradients, reference.gradients),
        "weights": relative(moved, expected_move),
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


def _same_bits(world: World, compute: ComputeConfig, *, is_deterministic: bool) -> dict[str, Any]:
    """Whether the same updates, from the start, give the same bits."""
    with deterministic() if is_deterministic else nullcontext():
        one, other = (Outcome.of(world, compute) for _ in range(2))
    differ = [name for name in one.weights if not torch.equal(one.weights[name], other.weights[name])]
    return {
        "passed": not differ,
        "differ": len(differ),
        "first_to_differ": differ[:4],
        "losses_differ": one.rows != other.rows,
        "relative_difference": relative(one.weights, other.weights),
    }


def _skipped(world: World) -> dict[str, Any]:
    """A gradient that is not a number leaves weights, moments and counts as they are; the next one moves
    them.
    """
    step, stream = make_step(world, BF16, NonFinite.SKIP), make_stream()

    def state() -> dict[str, Tensor]:
        return {name: _whole(t) for name, t in step.state_dict().items() if name != "step"}

    step(stream.batch(0))
    before, weights = state(), step.passes.token_weights
    step.passes.token_weights = weights * float("nan")
    bad = step(stream.batch(1))
    after = state()
    step.passes.token_weights = weights
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
            finals.append(_weights(step))  # pyright: ignore[reportPossiblyUnboundVariable]  (the loop runs)
    off = relative(*finals)
    return {"passed": off < 1e-3, "relative_difference": off, "tolerance": 1e-3}
