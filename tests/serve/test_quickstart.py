"""The model that ships, in company: the same bytes as `Generator.generate` alone."""

import functools
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trimask
from serve.company import listen, results, to_bytes
from trimask.generation.generate import Generator
from trimask.serve.scheduler import Scheduler

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

REQUESTS: list[dict[str, Any]] = [
    {"task": "text", "num_steps": 6, "seed": 1, "span_length": 24},
    {"task": "text", "prompt": "it was", "num_steps": 4, "span_length": 40, "num_samples": 2},
    {"task": "text_to_image", "prompt": "strawberry", "num_steps": 4},
    {"task": "text_to_image", "prompt": "red apple", "num_steps": 6, "negative_prompt": "green apple"},
    {"task": "text_to_speech", "prompt": "strawberry", "num_steps": 4},
    {"task": "joint", "num_steps": 5, "seed": 2},
]


@functools.cache
def quickstart() -> Generator:
    return trimask.load("quickstart")


@functools.cache
def expected(number: int) -> list[list[bytes]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [to_bytes(each) for each in quickstart().generate_many(**REQUESTS[number])]


def test_results_are_those_of_each_alone() -> None:
    check_company(list(range(len(REQUESTS))), [0, 1, 1, 2, 0, 3], {1}, most_rows=5, most_positions=400)


FIFTY = [number % len(REQUESTS) for number in range(50)]


@pytest.mark.slow
@settings(max_examples=10)
@given(
    order=st.permutations(FIFTY),
    begins=st.lists(st.integers(0, 12), min_size=50, max_size=50),
    cancelled=st.sets(st.integers(0, 49), max_size=12),
    most_rows=st.integers(4, 50),
    most_positions=st.integers(200, 16_384),
)
def test_results_among_fifty_requests(
    order: list[int], begins: list[int], cancelled: set[int], most_rows: int, most_positions: int
) -> None:
    check_company(order, begins, cancelled, most_rows=most_rows, most_positions=most_positions)


def check_company(order: list[int], begins: list[int], cancelled: set[int], **most: int) -> None:
    """Carry out requests in an order, each begun before a step; those at the places `cancelled` are cancelled
    two steps later.
    """
    scheduler = Scheduler(quickstart().predictor, **most)
    jobs = [(listen(quickstart(), REQUESTS[number]), number) for number in order]
    step = 0
    while scheduler.step() or step <= 16:
        for place, (begin, ((job, _), _)) in enumerate(zip(begins, jobs, strict=True)):
            if begin == step:
                scheduler.submit(job)
            if place in cancelled and begin + 2 == step:
                job.cancel()
        step += 1
    for (job, told), number in jobs:
        if not job.is_cancelled:
            assert [to_bytes(each) for each in results(told)] == expected(number)
