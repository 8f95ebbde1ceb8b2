"""Plans against real updates: memory in all and by part."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trimask.config import override
from trimask.planning.hardware import HARDWARE
from trimask.planning.memory import MemoryModel
from trimask.planning.plan import Assumptions, plan
from trimask.recipes import catalog
from trimask.runs.build import build_vocabulary
from trimask.training.run import RunConfig

SCALED_DOWN = {
    "model.width": "384",
    "model.num_heads": "3",
    "model.depth": "3",
    "data.spaces.text.codebook_size": "8192",
    "data.spaces.image.grid": "16,16",
    "data.spaces.image.codebook_size": "2048",
    "data.spaces.speech.codebook_size": "256",
    "data.sources.0.lengths.text": "509",
    "data.sources.1.lengths.text": "32",
    "data.sources.2.lengths.text": "60",
    "data.sources.2.lengths.speech": "2",
    "data.text_window": "509",
    "row_length": "512",
    "logical_batch": "4",
    "compute.compile": "false",
    "compute.micro_batch": "none",
    "compute.recompute": "none",
}
LARGER = SCALED_DOWN | {
    "model.width": "768",
    "model.num_heads": "6",
    "model.depth": "3",
    "data.spaces.text.codebook_size": "30000",
}


def recipe(overrides: dict[str, str]) -> RunConfig:
    config = catalog.resolve("trimodal_3b")
    assert isinstance(config, RunConfig)
    return override(config, overrides)


def measured(overrides: dict[str, str], *, is_allocator_plain: bool) -> dict[str, Any]:
    """`is_allocator_plain`: the C library gives back what is freed at once, so that tensors are measured."""
    script = Path(__file__).with_name("measured_step.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if is_allocator_plain:
        environment["MALLOC_MMAP_THRESHOLD_"] = "500000"
    command = [sys.executable, str(script), "trimodal_3b", json.dumps(overrides)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def model_of(config: RunConfig) -> MemoryModel:
    return MemoryModel(
        model=config.model,
        vocabulary=build_vocabulary(config, None),
        compute=config.compute,
        hardware=HARDWARE["cpu"],
        num_devices=1,
    )


def check(overrides: dict[str, str]) -> None:
    config = recipe(overrides)
    found = measured(overrides, is_allocator_plain=True)
    memory = model_of(config)
    moment = memory.fullest(slots=found["slots"], positions=found["positions"], read=found["read"])
    assert found["peak"] == pytest.approx(moment.total, rel=0.1), (found, moment)
    # By part: parameters, moments and gradients between updates; what the forward pass leaves.
    assert found["state"] == pytest.approx(4 / 3 * sum(memory.state().values()), rel=0.05), found
    kept = memory.activations(max(found["positions"]))
    assert found["activations"] == pytest.approx(kept, rel=0.02), (found, kept)


def planned(name: str, num_devices: int, overrides: dict[str, str], device: str = "h100") -> dict[str, Any]:
    config = override(catalog.resolve(name), overrides)
    assert isinstance(config, RunConfig)
    return plan(config, None, hardware=HARDWARE[device], num_devices=num_devices, assumptions=Assumptions())


def test_the_reference_fits_many_devices() -> None:
    found = planned("trimodal_3b", 512, {})
    memory = found["memory"]
    assert memory["fits"] and memory["total"] == sum(memory["parts"].values())
    assert (found["batch"]["rows_per_device"], found["batch"]["passes"]) == (8, 1)
    assert found["batch"]["largest_micro_batch"] >= 8 and not found["cautions"]
    time = found["time"]
    seconds = time["training_flops"] / (512 * 989.4e12 * 0.5)
    assert time["days"] * 86_400 == pytest.approx(seconds, rel=1e-5)
    assert time["device_hours"] == pytest.approx(512 * seconds / 3600, rel=1e-5)
    assert time["row_tokens"] == pytest.approx(6.4e12, rel=1e-4)
    assert found["checkpoint"]["bytes"] == 12 * found["parameters"]


def test_the_largest_pass_fits_and_a_larger_one_does_not() -> None:
    most = planned("trimodal_3b", 8, {})["batch"]["largest_micro_batch"]
    fits = [
        planned("trimodal_3b", 8, {"compute.micro_batch": str(rows)})["memory"]["fits"]
        for rows in (most, most + 1)
    ]
    # 512 rows a device are divided evenly, so that one more row may change nothing but the number of passes.
    assert fits[0] and not planned("trimodal_3b", 8, {"compute.micro_batch": str(2 * most)})["memory"]["fits"]


def test_what_does_not_fit_is_told_with_a_fix() -> None:
    (caution,) = planned("trimodal_3b", 1, {})["cautions"]
    assert "do not fit the 79.1 GiB of a device: set --compute.micro-batch" in caution
    (caution,) = planned("trimodal_3b", 1, {}, device="l40s")["cautions"]
    assert "use more devices" in caution
    with pytest.raises(ValueError, match="the replicas must divide the devices"):
        planned("trimodal_3b", 512, {"compute.replicas": "3"})


def test_a_batch_past_the_critical_one_is_told() -> None:
    cautions = planned("pilot_320m", 8, {"physical_batch": "16384"})["cautions"]
    assert any("past the critical one of 7,985" in caution for caution in cautions)


def test_many_small_passes_wait_for_their_neighbours() -> None:
    overrides = {"compute.micro_batch": "1", "logical_batch": "512", "num_steps": "1000"}
    slow = replace(HARDWARE["h100"], network_bandwidth=1e9)
    config = override(catalog.resolve("trimodal_3b"), overrides)
    assert isinstance(config, RunConfig)
    found = plan(config, None, hardware=slow, num_devices=512, assumptions=Assumptions())
    assert found["time"]["step_seconds"] == found["exchange"]["seconds"]
    assert any("takes longer than the products" in caution for caution in found["cautions"])


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@linux
def test_memory_is_what_updates_take() -> None:
    check(SCALED_DOWN | {"compute.micro_batch": "2"})


@linux
@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("micro_batch", ["none", "2"])
@pytest.mark.parametrize("size", [SCALED_DOWN, LARGER], ids=["smaller", "larger"])
def test_memory_at_more_sizes(recompute: str, micro_batch: str, size: dict[str, str]) -> None:
    check(size | {"compute.recompute": recompute, "compute.micro_batch": micro_batch})


@linux
@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("micro_batch", ["none", "2"])
def test_the_usual_allocator_loses_as_much_as_is_stated(recompute: str, micro_batch: str) -> None:
    overrides = LARGER | {"compute.recompute": recompute, "compute.micro_batch": micro_batch}
    found = measured(overrides, is_allocator_plain=False)
    memory = model_of(recipe(overrides))
    moment = memory.fullest(slots=found["slots"], positions=found["positions"], read=found["read"])
    assert found["peak"] == pytest.approx(moment.total * (1 + memory.hardware.fragments), rel=0.1), found
