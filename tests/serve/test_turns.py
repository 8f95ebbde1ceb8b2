"""Whose result is next, and how much is computed at once."""

import pytest
from torch import Tensor

from serve.company import HashPredictor, hash_generator, listen, run, tiny_generator
from trimask.generation.generate import Generator
from trimask.sampling.predictor import Prediction
from trimask.serve.job import Ended, Job, Message
from trimask.serve.scheduler import Scheduler
from trimask.vocabulary.batch import Batch

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning"),
]
Heard = tuple[Job, list[Message]]


class Measured(HashPredictor):
    """Notes the positions of each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.positions: list[int] = []
        self.rows: list[int] = []

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.positions.append(batch.num_positions)
        self.rows.append(batch.num_sequences)
        return super().__call__(z, batch)


def ask(generator: Generator, seed: int, *, span_length: int = 12, **options: int) -> Heard:
    request = {"task": "text", "seed": seed, "span_length": span_length, "num_steps": span_length}
    return listen(generator, request | options)


def submit(scheduler: Scheduler, heard: list[Heard]) -> None:
    for job, _ in heard:
        scheduler.submit(job)


def find_ends(scheduler: Scheduler, heard: list[Heard]) -> list[int]:
    """Carry out all requests; return the step after which each ended."""
    ends = [0] * len(heard)
    number, is_left = 0, True
    while is_left:
        is_left = scheduler.step()
        number += 1
        for index, (_, told) in enumerate(heard):
            if told and isinstance(told[-1], Ended) and not ends[index]:
                ends[index] = number
    return ends


@pytest.mark.parametrize("most_positions", [1, 13, 40, 100])
def test_positions_of_a_pass_are_bounded(most_positions: int) -> None:
    predictor = Measured()
    generator = tiny_generator(predictor=predictor)
    scheduler = Scheduler(predictor, most_positions=most_positions)
    submit(scheduler, [ask(generator, seed, span_length=4 + seed) for seed in range(12)])
    run(scheduler)
    alone = 16 + 3  # the longest text, between its marks
    assert max(predictor.positions) <= max(most_positions, alone)
    together = [n for n, rows in zip(predictor.positions, predictor.rows, strict=True) if rows > 1]
    assert all(number <= most_positions for number in together) and bool(together) == (most_positions >= 40)


def test_branches_count() -> None:
    """A guided row takes two passes, which are as large together as the bound allows."""
    predictor = Measured()
    generator = tiny_generator(predictor=predictor)
    for most_positions, rows in ((10_000, 4), (1, 1)):
        scheduler = Scheduler(predictor, most_positions=most_positions)
        predictor.rows.clear()
        request = {"task": "text_to_image", "prompt": "a cat", "num_steps": 2, "guidance_scale": 3.0}
        submit(scheduler, [listen(generator, request | {"seed": seed}) for seed in range(4)])
        run(scheduler)
        assert set(predictor.rows) == {rows}


def test_short_requests_pass_long_ones() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor, most_rows=1)
    heard = [ask(generator, 0, span_length=40), *(ask(generator, seed, span_length=2) for seed in (1, 2))]
    submit(scheduler, heard)
    long, *short = find_ends(scheduler, heard)
    assert max(short) < long


def test_a_stream_of_short_requests_leaves_a_long_one_its_share() -> None:
    """Short requests come one after the other. When as much was done for them as the long one needs, its turn
    comes.
    """
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor, most_rows=1)
    work = {length: length * (length + 3) for length in (4, 16)}  # passes × positions
    long = ask(generator, 0, span_length=16)
    submit(scheduler, [ask(generator, 1, span_length=4), long])
    done, seed = 0, 2
    last = ask(generator, seed, span_length=4)
    submit(scheduler, [last])
    while scheduler.step() and not isinstance(long[1][-1], Ended):
        if isinstance(last[1][-1], Ended):
            done, seed = done + 1, seed + 1
            last = ask(generator, seed, span_length=4)
            submit(scheduler, [last])
    assert isinstance(long[1][-1], Ended) and done == pytest.approx(work[16] / work[4], abs=3)


def test_a_request_for_many_leaves_room_for_others() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor, most_rows=8)
    many = ask(generator, 0, span_length=20, num_samples=16)
    submit(scheduler, [many])
    scheduler.step()
    assert scheduler.num_rows == 6
    one = ask(generator, 1, span_length=6)
    submit(scheduler, [one])
    ends = find_ends(scheduler, [many, one])
    assert ends[1] <= 6 < ends[0]


def test_equal_requests_come_in_their_order() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor, most_rows=1)
    heard = [ask(generator, seed) for seed in range(7)]
    submit(scheduler, heard)
    ends = find_ends(scheduler, heard)
    assert ends == sorted(ends) and ends[0] < ends[-1]
