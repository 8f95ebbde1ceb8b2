"""Parts that can be told by hand, and how they follow devices and choices."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from trimask.model import head
from trimask.model.denoiser import DenoiserConfig
from trimask.model.flops import count_parameters
from trimask.model.recompute import Recompute
from trimask.model.segments import ConditionAttention
from trimask.planning import memory
from trimask.planning.hardware import HARDWARE
from trimask.planning.memory import MemoryModel
from trimask.planning.pace import exchange, saving_interval
from trimask.training.compute import ComputeConfig, Precision
from trimask.vocabulary.layout import CodeSpace, Vocabulary

SPACES = (
    CodeSpace(name="text", num_codebooks=1, codebook_size=5000, has_end=True),
    CodeSpace(name="image", num_codebooks=1, codebook_size=512, has_end=False, grid=(8, 8)),
    CodeSpace(name="speech", num_codebooks=4, codebook_size=256, has_end=True, frame_rate=25.0),
)
H100 = MemoryModel(
    model=DenoiserConfig(width=512, depth=8, num_heads=4),
    vocabulary=Vocabulary(spaces=SPACES),
    compute=ComputeConfig(),
    hardware=HARDWARE["h100"],
    num_devices=8,
)
CPU = replace(H100, hardware=HARDWARE["cpu"], num_devices=1)
COUNT = count_parameters(H100.model, H100.vocabulary)


def parts(memory: MemoryModel, *positions: int) -> Mapping[str, int]:
    return memory.fullest(slots=0, positions=positions).parts


def test_the_state_is_sharded_over_the_group_that_holds_the_model() -> None:
    shard = COUNT.total / 8
    assert list(H100.state().values()) == pytest.approx([4 * shard, 8 * shard], abs=8)
    replicated = replace(H100, compute=ComputeConfig(replicas=4))
    assert sum(replicated.state().values()) == pytest.approx(4 * sum(H100.state().values()), abs=64)
    assert sum(CPU.state().values()) == 12 * COUNT.total == CPU.checkpoint_bytes()


def test_activations_follow_positions_precision_and_recomputation() -> None:
    assert H100.activations(2000) == 2 * H100.activations(1000)
    wide = replace(H100, compute=ComputeConfig(precision=Precision.FP32))
    assert 1.9 < wide.activations(1000) / H100.activations(1000) < 2.2
    sizes = [
        replace(H100, compute=ComputeConfig(recompute=recompute)).activations(1000)
        for recompute in (Recompute.FULL, Recompute.SELECTIVE, Recompute.NONE)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[1] / 4 < sizes[2] / 6


def test_keys_gathered_for_prefixes_are_kept_or_computed_again() -> None:
    prefix = replace(H100.model, condition_attention=ConditionAttention.PREFIX)
    for recompute, is_kept in ((Recompute.NONE, True), (Recompute.SELECTIVE, False), (Recompute.FULL, False)):
        memory = replace(H100, compute=ComputeConfig(recompute=recompute))
        more = replace(memory, model=prefix).activations(1000) - memory.activations(1000)
        assert more == (3 * 2 * 512 * 8 * 1000 if is_kept else 0)
        assert (
            replace(memory, model=prefix).fullest(slots=0, positions=(10**6,)).total
            > memory.fullest(slots=0, positions=(10**6,)).total
        )


def test_one_cpu_process_gathers_nothing_and_a_gpu_gathers_what_it_computes() -> None:
    assert "gathered parameters" not in parts(CPU, 1000)
    tables = 2 * (COUNT.embedding + COUNT.unembedding)
    kept = replace(H100, compute=ComputeConfig(reshard=False))
    assert tables < parts(H100, 10_000)["gathered parameters"] < tables + 2 * COUNT.blocks / 4
    assert parts(kept, 10_000)["gathered parameters"] == pytest.approx(2 * COUNT.total, rel=1e-3)


def test_a_second_pass_adds_to_gradients_that_are_there() -> None:
    once, twice = (CPU.fullest(slots=0, positions=p) for p in ((4000,), (4000, 4000)))
    assert twice.parts["gradients"] == 4 * COUNT.total > once.parts["gradients"]
    assert 0 < twice.total - once.total <= 4 * COUNT.total
    # A short second pass is not what the first one was; the most of both counts.
    assert CPU.fullest(slots=0, positions=(4000, 1)).total == once.total


def test_with_few_positions_the_state_and_gradients_are_what_counts() -> None:
    moment = CPU.fullest(slots=0, positions=(1,))
    assert 16 * COUNT.total <= moment.total < 17.5 * COUNT.total


def test_what_devices_exchange() -> None:
    found = exchange(H100, num_passes=3)
    assert found.gathered == pytest.approx(3 * 7 / 8 * 2 * (COUNT.total + COUNT.blocks))
    assert found.scattered == pytest.approx(3 * 7 / 8 * 4 * COUNT.total)
    assert found.replicated == 0
    assert found.seconds == pytest.approx((found.gathered + found.scattered) / 450e9)
    many = replace(H100, num_devices=64)
    assert exchange(many, num_passes=1).seconds > found.seconds / 3
    hybrid = replace(many, compute=ComputeConfig(replicas=8))
    split = exchange(hybrid, num_passes=1)
    assert split.replicated == pytest.approx(2 * 7 / 8 * 4 * COUNT.total / 8)
    assert split.seconds == pytest.approx(
        (split.gathered + split.scattered) / 450e9 + split.replicated / 50e9
    )
    kept = replace(H100, compute=ComputeConfig(reshard=False))
    assert exchange(kept, num_passes=3).gathered == pytest.approx(3 * 7 / 8 * 2 * COUNT.total)
    assert exchange(replace(H100, num_devices=1), num_passes=3).total == 0


def test_saving_loses_least_at_the_interval() -> None:
    def lost(every: float) -> float:
        """Share of the time: writing, and half an interval at each failure."""
        return 30.0 / every + every / 2 / 360_000

    best = saving_interval(write_seconds=30.0, failure_seconds=360_000.0)
    assert lost(best) < min(lost(0.9 * best), lost(1.1 * best))


def test_chunks_of_logits_are_those_of_the_head() -> None:
    assert {head._CHUNK_BYTES[name] for name in ("cpu", "cuda")} == set(memory._CHUNK_BYTES.values())
    assert memory._CHUNK_BYTES[False] == head._CHUNK_BYTES["cpu"]
    assert memory._MIN_CHUNK_ROWS == head._MIN_ROWS
