"""The step scheduler: results are those of `Generator.generate`, in any company, at any order of arrival."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generation.fakes import tiny_generator
from serve.company import REQUESTS, HashPredictor, hash_generator, listen, results, run, to_bytes
from trimask.errors import UserError
from trimask.generation.generate import Generator
from trimask.sampling import SamplerConfig
from trimask.sampling.order import EvidenceOrder
from trimask.sampling.predictor import Prediction
from trimask.serve.job import Began, Ended, Failed, Made, Message, Watched
from trimask.serve.scheduler import Busy, Scheduler
from trimask.vocabulary.batch import Batch

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning"),
]

MAKERS: dict[str, Callable[[], Generator]] = {"hash": hash_generator, "network": tiny_generator}
make = functools.cache(lambda name: MAKERS[name]())


@functools.cache
def expected(name: str, number: int) -> list[list[bytes]]:
    """What `Generator.generate` gives, alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short spans are told by the scheduler's messages
        return [to_bytes(each) for each in make(name).generate_many(**REQUESTS[number])]


def plans(least: int, most: int) -> Any:
    """Requests of every kind, when each is admitted, and when some are cancelled."""
    request = st.tuples(
        st.sampled_from(range(len(REQUESTS))),
        st.integers(0, 12),  # admitted before this step
        st.one_of(st.none(), st.none(), st.integers(0, 6)),  # cancelled so many steps later
    )
    return st.lists(request, min_size=least, max_size=most)


BOUNDS = {"most_rows": st.integers(1, 9), "most_positions": st.integers(1, 400)}


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=6)
@given(plan=plans(1, 9), **BOUNDS)
def test_results_are_those_of_each_alone(
    name: str, plan: list[tuple[int, int, int | None]], most_rows: int, most_positions: int
) -> None:
    check_company(name, plan, most_rows, most_positions)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=150)
@given(plan=plans(1, 9), **BOUNDS)
def test_results_are_those_of_each_alone_at_length(
    name: str, plan: list[tuple[int, int, int | None]], most_rows: int, most_positions: int
) -> None:
    check_company(name, plan, most_rows, most_positions)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=1)
@given(plan=plans(50, 50))
def test_fifty_requests(name: str, plan: list[tuple[int, int, int | None]]) -> None:
    check_company(name, plan, 32, 16_384)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=40)
@given(plan=plans(50, 50), most_rows=st.integers(1, 50), most_positions=st.integers(1, 2000))
def test_fifty_requests_at_length(
    name: str, plan: list[tuple[int, int, int | None]], most_rows: int, most_positions: int
) -> None:
    check_company(name, plan, most_rows, most_positions)


def check_company(
    name: str, plan: list[tuple[int, int, int | None]], most_rows: int, most_positions: int
) -> None:
    """Carry out a plan of requests; compare each with what `Generator.generate` gives alone."""
    generator = make(name)
    scheduler = Scheduler(generator.predictor, most_rows=most_rows, most_positions=most_positions)
    known = len(REQUESTS) - (name == "hash")
    plan = [(number % known, begin, stop) for number, begin, stop in plan]
    jobs = [(*listen(generator, REQUESTS[number]), number, begin, stop) for number, begin, stop in plan]
    step = 0
    while scheduler.step() or step <= 20:
        for job, _, _, begin, stop in jobs:
            if begin == step:
                scheduler.submit(job)
            if stop is not None and begin + stop == step:
                job.cancel()
        assert scheduler.num_rows <= most_rows
        step += 1
    for job, told, number, _, _ in jobs:
        made = {each.index: to_bytes(each.generated) for each in told if isinstance(each, Made)}
        for index, found in made.items():
            assert found == expected(name, number)[index]
        if not job.is_cancelled:
            assert [to_bytes(each) for each in results(told)] == expected(name, number)
    assert scheduler.num_jobs == scheduler.num_rows == 0


def test_requests_share_their_passes() -> None:
    generator = hash_generator()
    predictor = generator.predictor
    assert isinstance(predictor, HashPredictor)
    scheduler = Scheduler(predictor)
    for seed in range(5):
        scheduler.submit(listen(generator, {"task": "text", "num_steps": 6, "seed": seed})[0])
    run(scheduler)
    assert predictor.num_passes == scheduler.num_steps == 6


class Reads(HashPredictor):
    """Counts how often a prediction is read."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        prediction = super().__call__(z, batch)

        def log_probabilities(slots: Tensor, range_index: int) -> Tensor:
            self.num_reads += 1
            return prediction(slots, range_index)

        return log_probabilities


def test_requests_of_equal_settings_are_read_together() -> None:
    counts: list[int] = []
    for temperatures in ([0.5], [0.5] * 5, [0.5, 0.6, 0.7, 0.8, 0.9]):
        predictor = Reads()
        generator = tiny_generator(predictor=predictor)
        scheduler = Scheduler(predictor)
        for seed, temperature in enumerate(temperatures):
            config = SamplerConfig(num_steps=4)
            request = {"task": "text", "seed": seed, "config": config, "temperature": temperature}
            scheduler.submit(listen(generator, request)[0])
        run(scheduler)
        counts.append(predictor.num_reads)
    assert counts == [4, 4, 20]


class Unequal(EvidenceOrder):
    """A user's order that cannot be compared, as one that holds an array."""

    __slots__ = ()

    def score(self, log_probabilities: Tensor) -> Tensor:
        return log_probabilities.amax(1)

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = object.__hash__


def test_settings_that_cannot_be_compared() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)
    heard = [
        listen(
            generator, {"task": "text", "seed": seed, "config": SamplerConfig(num_steps=2, order=Unequal())}
        )
        for seed in range(2)
    ]
    for job, _ in heard:
        scheduler.submit(job)
    run(scheduler)
    assert all(len(results(told)) == 1 for _, told in heard)


def test_one_leaves_while_others_stay() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)
    long, told = listen(generator, {"task": "text", "num_steps": 8})
    scheduler.submit(long)
    scheduler.step()
    short, told_short = listen(generator, {"task": "text", "num_steps": 2, "seed": 1})
    scheduler.submit(short)
    for _ in range(2):
        scheduler.step()
    assert isinstance(told_short[-1], Ended) and not isinstance(told[-1], Ended)
    run(scheduler)
    assert isinstance(told[-1], Ended)


def test_cancelled_between_steps() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)
    job, told = listen(generator, REQUESTS[1])
    scheduler.submit(job)
    scheduler.step()
    assert scheduler.num_rows == 3
    job.cancel()
    assert not scheduler.step() and scheduler.num_rows == 0
    assert [type(each) for each in told] == [Began]
    unseen, told = listen(generator, REQUESTS[1])
    scheduler.submit(unseen)
    unseen.cancel()
    assert not scheduler.step() and told == []


def test_bounded() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor, most_jobs=2)
    for seed in range(2):
        scheduler.submit(listen(generator, {"task": "text", "num_steps": 2, "seed": seed})[0])
    with pytest.raises(Busy, match="2 requests wait"):
        scheduler.submit(listen(generator, {"task": "text"})[0])
    run(scheduler)
    scheduler.submit(listen(generator, {"task": "text"})[0])


def test_a_wrong_request_is_told_alone() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)
    wrong, told = listen(generator, {"task": "text_to_image"})
    right, told_right = listen(generator, REQUESTS[0])
    for job in (wrong, right):
        scheduler.submit(job)
    run(scheduler)
    (failed,) = told
    assert isinstance(failed, Failed) and isinstance(failed.error, UserError)
    assert "needs prompt" in str(failed.error)
    assert [to_bytes(each) for each in results(told_right)] == expected("hash", 0)


class Poisoned(HashPredictor):
    """Fails in any batch that has a document with a token."""

    def __init__(self, token: int):
        super().__init__()
        self.token = token

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        if (z == self.token).any():
            raise MemoryError("out of memory")
        return super().__call__(z, batch)


def test_a_failing_step_is_held_against_its_cause_alone() -> None:
    """A poisonous picture to caption; the others begin anew with the same results, shown once."""
    vocabulary = HashPredictor().vocabulary
    token = vocabulary.ranges_of("image")[0].start + 3
    generator = tiny_generator(predictor=Poisoned(token))
    scheduler = Scheduler(generator.predictor, most_rows=7)
    numbers = [2, 6, 4, 9]
    events: list[list[int]] = [[] for _ in numbers]

    def watch(at: int) -> Any:
        return lambda results, index, event: events[at].append(event.number) if index == 0 else None

    jobs = [listen(generator, REQUESTS[number], watch=watch(at)) for at, number in enumerate(numbers)]
    for job, _ in jobs[:3]:
        scheduler.submit(job)
    for _ in range(2):
        scheduler.step()
    codes = np.full((4, 2), 3)
    poison, told = listen(generator, {"task": "image_to_text", "image": codes, "num_steps": 2})
    scheduler.submit(poison)
    scheduler.submit(jobs[3][0])
    run(scheduler)
    assert isinstance(told[-1], Failed) and isinstance(told[-1].error, MemoryError)
    for (_, each), number in zip(jobs, numbers, strict=True):
        assert [to_bytes(made) for made in results(each)] == expected("hash", number)
    for seen, number in zip(events, numbers, strict=True):
        alone: list[Any] = []
        generator.generate_many(**REQUESTS[number], callback=alone.append)
        assert seen == [event.number for event in alone if event.row == 0]


def test_a_failing_watch_fails_its_own_request() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)

    def break_down(*_: Any) -> None:
        raise ZeroDivisionError("by the watch")

    bad, told = listen(generator, REQUESTS[0], watch=break_down)
    good, told_good = listen(generator, REQUESTS[6])
    for job in (bad, good):
        scheduler.submit(job)
    run(scheduler)
    assert isinstance(told[-1], Failed) and isinstance(told[-1].error, ZeroDivisionError)
    assert [to_bytes(each) for each in results(told_good)] == expected("hash", 6)


def test_passes_are_watched() -> None:
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)
    request = {"task": "text", "config": SamplerConfig(num_steps=3)}
    job, told = listen(generator, request, watch=lambda results, index, event: event.num_masked)
    scheduler.submit(job)
    run(scheduler)
    assert [each.value for each in told if isinstance(each, Watched)] == [12, 8, 4, 0]


def test_warnings_are_told() -> None:
    """Not printed: who asked is elsewhere."""
    generator = hash_generator()
    scheduler = Scheduler(generator.predictor)
    told: list[list[Message]] = []
    for seed in range(20):
        job, heard = listen(generator, {"task": "text", "span_length": 2, "num_steps": 1, "seed": seed})
        scheduler.submit(job)
        told.append(heard)
    run(scheduler)
    made = [each for heard in told for each in heard if isinstance(each, Made)]
    short = [each for each in made if not each.generated.is_complete]
    assert short and all("did not end within its span of 2" in " ".join(each.warnings) for each in short)
