"""What all sections share: where they run, how they time, what they write, and the recipes' work."""

import gc
import itertools
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from trimask import devices, io
from trimask.data.mixture import Mixture
from trimask.data.random_codes import random_sources
from trimask.data.selection import StatedData, StatedSource
from trimask.data.source_names import IMAGES, SPEECH, TEXT
from trimask.data.stream import TrainingStream
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.flops import forward_flops
from trimask.model.parametrization import Standard
from trimask.runs.build import build_vocabulary
from trimask.training.compute import ComputeConfig
from trimask.training.distributed import World, open_world
from trimask.training.run import RunConfig
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.layout import CodeSpace, Vocabulary

PEAK = 989e12
"""Dense bf16 FLOP/s of an H100 (SXM), as its maker states it; MFU is of this, and of what was measured."""
_ERROR_LINES = 6


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Attributes:
    ends: when the section must be over, on the monotonic clock.
    ceiling: FLOP/s of the quickest bf16 product, if it was measured.
    """

    device: torch.device
    is_tiny: bool
    ends: float
    ceiling: float | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def left(self) -> float:
        return self.ends - time.monotonic()

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


@final
class Part:
    """What a section found, on disk after each figure."""

    def __init__(self, path: Path, setting: Setting):
        self.path = path
        self.setting = setting
        self.found: dict[str, Any] = {"machine": devices.describe(setting.device)}

    def note(self, name: str, value: Any) -> None:
        *groups, last = name.split("/")
        place = self.found
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
        io.write_json(self.path, self.found)

    def attempt(self, name: str, measure: Callable[[], Any], *, needs: float = 0) -> Any:
        """Note what `measure()` gives, unless that is None; or how it failed; or that less than `needs`
        seconds are left.
        """
        if self.setting.left() < needs:
            found: Any = {"left_out": f"{self.setting.left():.0f} s are left, and it needs {needs:.0f}"}
        else:
            try:
                found = measure()
            except Exception as error:  # each figure stands for itself
                lines = traceback.format_exc().strip().splitlines()[-_ERROR_LINES:]
                is_memory = isinstance(error, torch.OutOfMemoryError)
                found = {"error": "out of memory" if is_memory else "\n".join(lines)[-1500:]}
        free_memory(self.setting)
        if found is not None:
            self.note(name, found)
        return found


def device(name: str) -> torch.device:
    return devices.pick(name)


def free_memory(setting: Setting) -> None:
    gc.collect()
    if setting.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setting.device)


def timed(setting: Setting, work: Callable[[], Any], *, seconds: float = 0.5) -> dict[str, float]:
    """Seconds of one `work()`: median, least and most of as many as take about `seconds` together."""
    for _ in range(1 if setting.is_tiny else 3):
        work()
    setting.synchronize()
    began = time.perf_counter()
    work()
    setting.synchronize()
    once = max(time.perf_counter() - began, 1e-7)
    rounds = 2 if setting.is_tiny else int(min(max(seconds / once, 5), 100))
    if not setting.on_gpu:
        found = []
        for _ in range(rounds):
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
        return spread(found)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    setting.synchronize()
    return spread([a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)])


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": len(values),
    }


@contextmanager
def one_device(setting: Setting) -> Iterator[World]:
    """A world of one process that shards over its device, on a CPU too."""
    if setting.on_gpu:
        with open_world(str(setting.device)) as world:
            yield world
        return
    store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]  (documented)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        control, background = (dist.new_group(backend="gloo") for _ in range(2))
        assert isinstance(control, dist.ProcessGroup) and isinstance(background, dist.ProcessGroup)
        mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("shard",))
        yield World(mesh=mesh, control=control, background=background)
    finally:
        dist.destroy_process_group()


@contextmanager
def deterministic() -> Iterator[None]:
    """Kernels that add up in a fixed order, where torch has a choice."""
    switch: Any = torch.utils.deterministic
    filled, switch.fill_uninitialized_memory = switch.fill_uninitialized_memory, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        switch.fill_uninitialized_memory = filled


def sized(setting: Setting, recipe: Callable[[], RunConfig]) -> RunConfig:
    """The recipe, or what stands in for it at a tiny size."""
    config = recipe()
    if not setting.is_tiny:
        return config
    spaces = (
        CodeSpace(name="text", num_codebooks=1, codebook_size=60, has_end=True),
        CodeSpace(name="image", num_codebooks=1, codebook_size=32, has_end=False, grid=(4, 4)),
        CodeSpace(name="speech", num_codebooks=2, codebook_size=16, has_end=True, frame_rate=8.0),
    )
    sources = (
        StatedSource(name=TEXT, lengths={"text": 61}),
        StatedSource(name=IMAGES, lengths={"text": 6, "image": 1}),
        StatedSource(name=SPEECH, lengths={"text": 6, "speech": 2.0}),
    )
    return replace(
        config,
        model=DenoiserConfig(width=32, depth=4, num_heads=2, parametrization=Standard()),
        data=StatedData(spaces=spaces, sources=sources, text_window=61),
        slack=replace(config.slack, filled={"image_to_text": 8}),
        row_length=64,
        logical_batch=8,
        compute=ComputeConfig(micro_batch=4),
    )


def vocabulary(config: RunConfig) -> Vocabulary:
    return build_vocabulary(config, None)


def batches(config: RunConfig, *, rows: int, count: int) -> list[Batch]:
    """Updates of the recipe's mixture, over random codes of the stated lengths."""
    stream = random_stream(config, rows=rows)
    return [stream.batch(number) for number in range(count)]


def random_stream(config: RunConfig, *, rows: int) -> TrainingStream:
    assert isinstance(config.data, StatedData)
    return TrainingStream(
        Mixture(config.mixture, random_sources(config.data), config.seed),
        vocabulary(config),
        slack=config.slack,
        text_window=config.data.text_window,
        physical_batch=rows,
        row_length=config.row_length,
    )


@torch.no_grad()
def initialize_here(denoiser: Denoiser, seed: int) -> None:
    """In place of `Denoiser.initialize`, whose numbers are drawn on the host: a minute for 3B."""
    generator = torch.Generator(denoiser.embedding.weight.device).manual_seed(seed)
    for name, parameter in denoiser.named_parameters():
        rule = denoiser.config.rule(name)
        here = getattr(parameter, "_local_tensor", parameter)
        # Where training starts from zeros, real training soon leaves them.
        if rule.init_std == 0 and rule.init_mean == 0:
            here.normal_(std=0.02, generator=generator)
        elif rule.init_std == 0:
            here.fill_(rule.init_mean)
        else:
            here.normal_(rule.init_mean, rule.init_std, generator=generator)


def needed_flops(config: DenoiserConfig, space: Vocabulary, batch: Batch, masked: torch.Tensor) -> float:
    """Of the forward and backward pass on `batch`, whose slots `masked` are predicted: products of matrices
    and attention within documents, nothing computed twice (`forward_flops`).
    """
    lengths = batch.cu_positions.diff().tolist()
    read = batch.position[masked].unique()
    kept = torch.bincount(batch_document(batch)[read], minlength=len(lengths)).tolist()
    total = 0.0
    for length, prefix, number in zip(lengths, batch.prefix_length.tolist(), kept, strict=True):
        total += forward_flops(
            config,
            num_positions=length,
            document_length=length,
            num_predicted=0,
            range_size=0,
            num_read=number,
            prefix_length=prefix,
        )
    predicted = np.bincount(batch.range_index[masked].numpy(), minlength=len(space.ranges))
    for token_range, count in zip(space.ranges, predicted.tolist(), strict=True):
        total += forward_flops(
            config, num_positions=0, document_length=0, num_predicted=count, range_size=token_range.size
        )
    return 3.0 * total


def batch_document(batch: Batch) -> torch.Tensor:
    """The document of each position."""
    lengths = batch.cu_positions.diff()
    return torch.arange(len(lengths)).repeat_interleave(lengths)
