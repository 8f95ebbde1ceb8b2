"""What the load of the server is compared with: fair shares, and the twin that batches whole requests."""

import pytest

from benchmarks.serving.asked import Asked, read
from benchmarks.serving.load import find_shares
from benchmarks.serving.whole import WholeRequests
from serve.company import REQUESTS, hash_generator, listen, results, to_bytes
from trimask.serve.job import Began, Ended
from trimask.serve.scheduler import Busy, Scheduler

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.SpanTooShortWarning"),
    pytest.mark.filterwarnings("ignore::trimask.generation.length.EmptySpanWarning"),
]


def test_shares_are_those_of_processor_sharing() -> None:
    """Simulated in small slices: all that are left get an equal part of each."""
    works = [0.5, 3.0, 1.0, 1.0, 2.25]
    left, ends, now, slice_ = list(works), [0.0] * len(works), 0.0, 1e-4
    while any(left):
        active = [index for index, each in enumerate(left) if each > 0]
        now += slice_
        for index in active:
            left[index] = max(left[index] - slice_ / len(active), 0.0)
            ends[index] = now
    assert find_shares(works) == pytest.approx(ends, abs=0.01)


def test_the_twin_gives_the_same_results_batch_by_batch() -> None:
    generator = hash_generator()
    server = WholeRequests(Scheduler(generator.predictor, most_rows=4))
    numbers = [2, 0, 3, 6, 2, 4]
    heard = [listen(generator, REQUESTS[number]) for number in numbers]
    for job, _ in heard:
        server.submit(job)
    is_left, ended = True, []
    while is_left:
        is_left = server.step()
        ended.append(tuple(bool(told) and isinstance(told[-1], Ended) for _, told in heard))
    for (_, told), number in zip(heard, numbers, strict=True):
        expected = generator.generate_many(**REQUESTS[number])
        assert [to_bytes(each) for each in results(told)] == [to_bytes(each) for each in expected]
        assert isinstance(told[0], Began)
    texts = (True, False, True, False, True, True)  # one task, and as many as fit
    assert list(dict.fromkeys(ended)) == [
        (False,) * 6,
        texts,
        (True, True, True, False, True, True),
        (True,) * 6,
    ]


def test_the_twin_is_bounded() -> None:
    generator = hash_generator()
    server = WholeRequests(Scheduler(generator.predictor, most_jobs=1))
    server.submit(listen(generator, REQUESTS[0])[0])
    with pytest.raises(Busy):
        server.submit(listen(generator, REQUESTS[0])[0])


def test_answers_are_compared_without_times_and_ids() -> None:
    asked = Asked(kind="words", path="/v1/completions", body={"stream": True})
    lines = 'data: {"id": "%s", "choices": [{"text": "%s"}], "usage": {"completion_tokens": 7}}\n\n'
    first = read(asked, (lines % ("a", "x") + lines % ("a", "y")).encode())
    second = read(asked, (lines % ("b", "y") + lines % ("b", "x")).encode())
    other = read(asked, (lines % ("b", "y") + lines % ("b", "z")).encode())
    assert first.is_like(second) and not first.is_like(other) and first.tokens == 7
    with pytest.raises(ValueError, match="down"):
        read(asked, b'data: {"error": {"message": "down"}}\n\n')


@pytest.mark.parametrize(
    ("one", "other", "is_like"),
    [
        ("[0.764, null]", "[0.764, null]", True),
        ("[0.764, null]", "[0.765, null]", True),
        ("[0.0, null]", "[0.001, null]", True),
        ("[0.764, null]", "[0.766, null]", False),
        ("[0.764, null]", "[0.764, 0.0]", False),
        ("[0.764, null]", "[0.764]", False),
    ],
)
def test_confidences_may_differ_in_their_last_digit(one: str, other: str, is_like: bool) -> None:
    asked = Asked(kind="caption", path="/v1/canvas", body={})
    line = 'data: {"revealed": [[0, 1]], "confidence": %s}\n\n'
    assert read(asked, (line % one).encode()).is_like(read(asked, (line % other).encode())) == is_like
