"""Plans against real updates: memory in all and by part."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trimask.config import override
from trimask.recipes import catalog
from trimask.recipes.workload import vocabulary_of
from trimask.training.plan.hardware import HARDWARE
from trimask.training.plan.memory import MemoryModel
from trimask.training.run import RunConfig

SCALED_DOWN = {
    "model.width": "384",
    "model.num_heads": "3",
    "model.depth": "3",
    "data.geometry.text_size": "8192",
    "data.geometry.image_grid": "16,16",
    "data.geometry.image_codebook_size": "2048",
    "data.geometry.speech_codebook_size": "256",
    "data.sources.0.text": "509",
    "data.sources.1.text": "32",
    "data.sources.2.text": "60",
    "data.sources.2.seconds": "2",
    "slack.text_window": "509",
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
    "data.geometry.text_size": "30000",
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
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def model_of(config: RunConfig) -> MemoryModel:
    return MemoryModel(
        model=config.model,
        vocabulary=vocabulary_of(config, None),
        compute=config.compute,
        hardware=HARDWARE["cpu"],
        num_devices=1,
    )


def check(overrides: dict[str, str]) -> None:
    config = recipe(overrides)
    found = measured(overrides, is_allocator_plain=True)
    memory = model_of(config)
    moment = memory.fullest(slots=found["slots"], positions=found["positions"])
    assert found["peak"] == pytest.approx(moment.total, rel=0.1), (found, moment)
    # By part: parameters, moments and gradients between updates; what the forward pass leaves.
    assert found["state"] == pytest.approx(4 / 3 * sum(memory.state().values()), rel=0.1), found
    kept = memory.activations(max(found["positions"]))
    assert found["activations"] == pytest.approx(kept, rel=0.1), (found, kept)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@linux
@pytest.mark.parametrize("micro_batch", ["none", "2"])
def test_memory_is_what_updates_take(micro_batch: str) -> None:
    check(SCALED_DOWN | {"compute.micro_batch": micro_batch})


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
    moment = memory.fullest(slots=found["slots"], positions=found["positions"])
    assert found["peak"] == pytest.approx(moment.total * (1 + memory.hardware.fragments), rel=0.1), found
