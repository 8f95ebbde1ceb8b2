import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import config

from trimask.studies.store import RESULTS, Results
from trimask.studies.trial import Result


def result(seed: int, loss: float | None = 2.5) -> Result:
    return Result(
        factors={"rule": "κ", "batch": 4, "seed": seed},
        fingerprint="abc",
        seconds=1.5,
        figures={"all": loss},
    )


def test_results_come_back_as_they_were(tmp_path: Path):
    store = Results(tmp_path)
    store.add(result(0))
    store.add(result(1, None))
    again = Results(tmp_path)
    assert again.by_name == {"rule=κ,batch=4,seed=0": result(0), "rule=κ,batch=4,seed=1": result(1, None)}
    assert again.by_name["rule=κ,batch=4,seed=1"].figure("all") == float("inf")


def test_a_torn_line_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store = Results(tmp_path)
    store.add(result(0))
    store.add(result(1))
    path = tmp_path / RESULTS
    path.write_bytes(path.read_bytes()[:-10])
    torn = path.read_bytes()
    again = Results(tmp_path)
    assert list(again.by_name) == [result(0).name]
    assert "torn line" in caplog.text and path.read_bytes() == torn  # it may be under way
    again.add(result(2))
    assert [json.loads(line)["factors"]["seed"] for line in path.read_text().splitlines()] == [0, 2]


NO_RESULTS = [
    *("[]", '{"seed": 0}', "nonsense", '{"factors": 7, "fingerprint": "", "seconds": 1, "figures": {}}'),
    '{"factors": {"a": []}, "fingerprint": "", "seconds": 1, "figures": {}}',
    '{"factors": {}, "fingerprint": 1, "seconds": 1, "figures": {}}',
    '{"factors": {}, "fingerprint": "", "seconds": "1", "figures": {}}',
    '{"factors": {}, "fingerprint": "", "seconds": 1, "figures": {"a": "b"}}',
]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the tests' own checks of annotations, which would find the wrong values first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("line", NO_RESULTS)
def test_a_line_that_is_no_result_is_named(tmp_path: Path, line: str):
    Results(tmp_path).add(result(0))
    with (tmp_path / RESULTS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 2: not a result"):
        Results(tmp_path)
