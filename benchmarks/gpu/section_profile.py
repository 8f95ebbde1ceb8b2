"""Where the time of the pilot's update goes: kernels by share, how long the GPU has nothing to do, and each
place at which the host waits for it.
"""

import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import torch
from setting import Part, Setting, batches, one_device, sized
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]  (documented)
from torch.profiler import ProfilerActivity, profile

from training import Way, built
from trimask.recipes.reference import pilot_320m
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch

_TOP = 25


def run(setting: Setting, part: Part) -> None:
    config = sized(setting, pilot_320m)
    micro_batch = config.compute.micro_batch or config.logical_batch
    updates = batches(config, rows=4 * micro_batch, count=2)
    eager = Way(micro_batch=micro_batch)
    with one_device(setting) as world:
        for name, way in (("eager", eager), ("compiled", replace(eager, is_compiled=True))):

            def look(name: str = name, way: Way = way) -> None:
                with built(setting, world, config, way) as step:
                    for batch in updates:
                        step(batch)
                    setting.synchronize()
                    part.attempt(f"{name}/waits", lambda: _waits(setting, step, updates))
                    part.attempt(f"{name}/time", lambda: _time(setting, step, updates[:1]))

            part.attempt(f"{name}/built", look, needs=10)


def _waits(setting: Setting, step: DenoiserStep, updates: list[Batch]) -> dict[str, Any]:
    """What torch calls synchronizing, per update: line of ours (or of torch) by count."""
    if not setting.on_gpu:
        return {"impossible": "a CPU is never waited for"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for batch in updates:
                step(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    setting.synchronize()
    places = Counter(
        f"{'/'.join(w.filename.split('/')[-3:])}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
    )
    return {"per_update": sum(places.values()) / len(updates), "places": dict(places.most_common(20))}


def _time(setting: Setting, step: DenoiserStep, updates: list[Batch]) -> dict[str, Any]:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if setting.on_gpu else [])
    with profile(activities=activities) as found:
        for batch in updates:
            step(batch)
        setting.synchronize()
    if not setting.on_gpu:
        averages = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
        total = sum(e.self_cpu_time_total for e in averages)
        top = {e.key[:80]: round(e.self_cpu_time_total / total, 4) for e in averages[:_TOP]}
        return {"top_operations": top}
    # Annotations show up on the device's time line too, and are no work.
    kernels = [
        e
        for e in found.events() or []
        if e.device_type == DeviceType.CUDA
        and not getattr(e, "is_user_annotation", False)
        and not e.name.startswith(("FSDP::", "Torch-Compiled Region", "## "))
    ]
    spans = sorted((e.time_range.start, e.time_range.end) for e in kernels)
    busy, reached, gaps = 0.0, spans[0][0], []
    for start, end in spans:
        if start > reached:
            gaps.append(start - reached)
        busy += max(end - max(start, reached), 0)
        reached = max(reached, end)
    whole = reached - spans[0][0]
    by_name: dict[str, float] = defaultdict(float)
    for e in kernels:
        by_name[e.name[:100]] += e.time_range.end - e.time_range.start
    top = sorted(by_name.items(), key=lambda item: -item[1])[:_TOP]
    return {
        "updates": len(updates),
        "microseconds": whole,
        "idle_share": 1 - busy / whole,
        "longest_gaps_microseconds": sorted(gaps, reverse=True)[:8],
        "gaps_over_20_microseconds": sum(gap > 20 for gap in gaps),
        "kernels_per_update": len(kernels) / len(updates),
        "top_kernels": {name: round(t / busy, 4) for name, t in top},
    }
