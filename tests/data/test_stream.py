"""Training batches: pure in the step, with end frames as the slack says."""

import numpy as np
import pytest
import torch

from in_memory import InMemory
from trimask.data.loader import load
from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.stream import SpanSlack, TrainingStream, target_ends
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.codebooks import Flattened, Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=300, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=16, has_end=False, grid=(2, 2)),
        CodeSpace(name="speech", num_codebooks=3, codebook_size=8, has_end=True),
    ),
    layouts={"image": Parallel(), "speech": Flattened()},
)


def make_stream(row_length: int | None = None) -> TrainingStream:
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, 300, (n, 1)) for n in (3, 5, 40)]
    pairs = InMemory(
        name="pairs",
        codes={
            "text": list(texts[:2]),
            "image": [draw.integers(0, 16, (4, 2))] * 2,
        },
        groups=np.arange(2),
    )
    spoken = InMemory(
        name="spoken",
        codes={
            "text": list(texts[:2]),
            "speech": [draw.integers(0, 8, (9, 3))] * 2,
        },
        groups=np.arange(2),
    )
    text = InMemory(name="text", codes={"text": list(texts)}, groups=np.arange(3))
    components = (
        Component(source="pairs", task="text_to_image", weight=1.0),
        Component(source="spoken", task="text_to_speech", weight=1.0),
        Component(source="text", task="text", weight=2.0),
    )
    mixture = Mixture(
        MixtureConfig(components=components, block_length=8),
        {"pairs": pairs, "spoken": spoken, "text": text},
        seed=3,
    )
    return TrainingStream(
        mixture, VOCABULARY, slack=SpanSlack(), text_window=40, physical_batch=8, row_length=row_length
    )


def test_batches_are_pure_in_the_step():
    ahead = make_stream().batches(2)
    fresh = make_stream().batch(3)
    next(ahead)
    batch = next(ahead)
    for name in batch.__slots__:
        assert torch.equal(getattr(batch, name), getattr(fresh, name)), name


def test_a_batch_holds_its_own_samples_longest_first():
    batch = make_stream().batch(2)
    assert sorted(batch.sample_index.tolist()) == list(range(16, 24))
    lengths = batch.cu_positions.diff()
    assert (lengths[:-1] >= lengths[1:]).all()


def test_rows_pack_text_and_pad_pairs():
    batch = make_stream(row_length=120).batch(0)
    tasks = [task.name for task in VOCABULARY.tasks]
    for row in batch.sequence:
        inside = {tasks[batch.task[s]] for s in row.unique().tolist() if s >= 0}
        members = len([s for s in row.unique().tolist() if s >= 0])
        assert members == 1 or inside == {"text"}
    assert len(batch.tokens) < 8


@pytest.mark.parametrize("uniform", [0.0, 0.5, 0.999999])
def test_slack_bounds(uniform: float):
    slack = SpanSlack(minimum=4, fraction=0.3)

    def num_end(task: str, modality: str, length: int) -> int:
        row, space = VOCABULARY.task(task), VOCABULARY.space(modality)
        return slack.num_end(row, space, length, uniform, text_window=128)

    assert 1 <= num_end("text_to_speech", "speech", 10) <= 5
    assert 1 <= num_end("text_to_speech", "speech", 100) <= 31
    assert num_end("text_to_image", "image", 64) == 0
    assert num_end("text", "text", 128) == 0
    assert 1 <= num_end("text", "text", 127) <= 39
    assert 7 + num_end("image_to_text", "text", 7) <= 24
    assert num_end("image_to_text", "text", 30) == 1


def test_conditions_carry_no_end():
    codes = {
        "text": np.zeros((3, 1), dtype=np.int64),
        "speech": np.zeros((9, 3), dtype=np.int64),
    }
    assert set(
        target_ends(SpanSlack(), VOCABULARY, "text_to_speech", codes, np.zeros(3), text_window=128)
    ) == {"speech"}
    assert set(
        target_ends(SpanSlack(), VOCABULARY, "speech_to_text", codes, np.zeros(3), text_window=128)
    ) == {"text"}
    assert set(target_ends(SpanSlack(), VOCABULARY, "joint", codes, np.zeros(3), text_window=128)) == {
        "text",
        "speech",
    }


def test_a_step_needs_a_sequence():
    with pytest.raises(ValueError, match="physical_batch 0"):
        stream = make_stream()
        TrainingStream(
            stream.mixture, VOCABULARY, slack=SpanSlack(), text_window=40, physical_batch=0, row_length=None
        )


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in one.__slots__)


def test_parts_make_up_the_batch():
    """Each sequence is in one part, laid out as in a batch of its own; all know the whole update."""
    stream = make_stream()
    whole = stream.batch(2)
    parts = [stream.batch(2, rank=rank, num_parts=3) for rank in range(3)]
    found = torch.cat([part.sample_index for part in parts])
    assert sorted(found.tolist()) == sorted(whole.sample_index.tolist()) == list(range(16, 24))
    for part in parts:
        for name in ("update_sample_index", "update_task"):
            assert torch.equal(getattr(part, name), getattr(parts[0], name))
        assert sorted(part.update_sample_index.tolist()) == list(range(16, 24))
        for number, index in enumerate(part.sample_index.tolist()):
            own = part.tokens[part.sequence == number]
            there = int((whole.sample_index == index).nonzero())
            assert torch.equal(own, whole.tokens[whole.sequence == there])
    with pytest.raises(ValueError, match="physical_batch 8: each of 9 processes"):
        stream.batch(0, rank=0, num_parts=9)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaded_batches_are_the_streams_own(num_workers: int):
    stream = make_stream()
    loaded = load(stream, 5, rank=1, num_parts=2, num_workers=num_workers)
    for step in (5, 6, 7, 8):
        assert equal(next(loaded), stream.batch(step, rank=1, num_parts=2))
