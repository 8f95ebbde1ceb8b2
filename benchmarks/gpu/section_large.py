"""The 3B model: a few of its blocks at full width, from which the whole is extrapolated; and the whole, in
passes that one GPU's memory bears.
"""

from dataclasses import replace

from setting import Part, Setting, batches, one_device, sized
from training import Way, extrapolated, measure

from trimask.model.recompute import Recompute
from trimask.recipes.reference import trimodal_3b
from trimask.training.compute import Precision


def run(setting: Setting, part: Part) -> None:
    config = sized(setting, trimodal_3b)
    depth = config.model.depth
    rows, size = (4, 2) if setting.is_tiny else (32, 8)
    low, high = (1, 2) if setting.is_tiny else (3, 6)
    part.note("row_length", config.row_length)
    updates = batches(config, rows=rows, count=2)
    few = updates if setting.is_tiny else batches(config, rows=16, count=1)
    compiled = Way(is_compiled=True, micro_batch=size, recompute=Recompute.SELECTIVE)
    float8 = replace(compiled, precision=Precision.FLOAT8)
    whole = replace(compiled, micro_batch=2)
    with one_device(setting) as world:

        def at_depths(name: str, way: Way) -> None:
            found = {}
            for blocks in (high, low):
                found[blocks] = part.attempt(
                    f"{name}/depth_{blocks}",
                    lambda b=blocks: measure(setting, world, config, replace(way, depth=b), updates),
                    needs=15,
                )
            if all("mfu" in each for each in found.values()):
                ends = (low, found[low]), (high, found[high])
                part.note(f"{name}/depth_{depth}", extrapolated(setting, *ends, depth))

        def all_of_it(name: str, way: Way) -> None:
            part.attempt(f"whole/{name}", lambda: measure(setting, world, config, way, few), needs=20)

        at_depths("bf16", compiled)
        all_of_it("compiled_selective_2_rows", whole)
        all_of_it(
            "compiled_full_recomputation_4_rows", replace(whole, micro_batch=4, recompute=Recompute.FULL)
        )
        all_of_it("compiled_float8_selective_2_rows", replace(whole, precision=Precision.FLOAT8))
        at_depths("float8", float8)
        all_of_it("compiled_1_row", replace(whole, micro_batch=1, recompute=Recompute.NONE))
