"""The whole pilot: its update of 256 rows in bf16, compiled, in float8, and with other passes."""

from dataclasses import replace

from setting import Part, Setting, batches, one_device, sized
from training import Way, measure

from trimask.model.recompute import Recompute
from trimask.recipes.reference import pilot_320m
from trimask.training.compute import Precision


def run(setting: Setting, part: Part) -> None:
    config = sized(setting, pilot_320m)
    micro_batch = config.compute.micro_batch or config.logical_batch
    part.note("row_length", config.row_length)
    updates = batches(config, rows=config.logical_batch, count=2)
    eager = Way(micro_batch=micro_batch)
    compiled = replace(eager, is_compiled=True)
    ways = {
        "compiled": compiled,
        "eager": eager,
        "compiled_float8": replace(compiled, precision=Precision.FLOAT8),
        "compiled_passes_twice_as_large": replace(compiled, micro_batch=2 * micro_batch),
        "compiled_parameters_kept": replace(compiled, reshard=False),
        "compiled_selective": replace(compiled, recompute=Recompute.SELECTIVE),
        "eager_full_recomputation": replace(eager, recompute=Recompute.FULL),
        "eager_deterministic": replace(eager, is_deterministic=True),
    }
    with one_device(setting) as world:
        for name, way in ways.items():
            part.attempt(f"ways/{name}", lambda w=way: measure(setting, world, config, w, updates), needs=12)
