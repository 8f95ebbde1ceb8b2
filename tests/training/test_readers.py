"""Who reads a run that goes on: everything loads, nothing is touched."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from trimask.training.checkpoint import Checkpoint, Checkpoints

CONFIG = {"seed": 0}


def _checkpoints(run: Path) -> Checkpoints:
    return Checkpoints(run, config=CONFIG, keep=1)


def _tensors(step: int) -> dict[str, torch.Tensor]:
    return {name: torch.full((1000,), float(step)) for name in ("a", "b")}


def _save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(Checkpoint(step=step), _tensors(step))
    checkpoints.wait()


def _names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@contextmanager
def _a_run_that_goes_on(run: Path) -> Iterator[None]:
    """A checkpoint at each step, of which one is kept."""
    is_over, errors = threading.Event(), []

    def write() -> None:
        try:
            with _checkpoints(run) as checkpoints:
                for step in range(1, 100_000):
                    _save(checkpoints, step)
                    if is_over.is_set():
                        return
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not list(run.glob("checkpoints/step_*")):
            assert thread.is_alive(), errors
        yield
    finally:
        is_over.set()
        thread.join()
    assert not errors


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_all_loads_succeed_while_a_run_replaces_its_checkpoints(tmp_path: Path) -> None:
    with _a_run_that_goes_on(tmp_path):
        for _ in range(10):
            into = _tensors(0)
            found = _checkpoints(tmp_path).peek_newest(into)
            assert found is not None
            for tensor in into.values():
                assert torch.equal(tensor, torch.full((1000,), float(found.step)))
    assert not [name for name in _names(tmp_path) if not name.startswith("step_") or "corrupt" in name]


def test_what_is_held_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1)
    read = Checkpoints._read

    def slowly(self: Checkpoints, step: int, into: dict[str, torch.Tensor]) -> Checkpoint:
        _save(checkpoints, 2, 3)
        assert _names(tmp_path) == ["step_00000001", "step_00000003"]
        return read(self, step, into)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_read", slowly)
        into = _tensors(0)
        assert _checkpoints(tmp_path).peek_newest(into) == Checkpoint(step=1)
    assert float(into["a"][0]) == 1
    _save(checkpoints, 4)
    assert _names(tmp_path) == ["step_00000004"]


def test_a_reader_passes_over_what_is_damaged_and_renames_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Checkpoints(tmp_path, config=CONFIG, keep=2) as checkpoints:
        _save(checkpoints, 1, 2)
    before = _names(tmp_path)
    (file,) = checkpoints.path(2).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    assert _checkpoints(tmp_path).peek_newest(_tensors(0)) == Checkpoint(step=1)
    assert "checkpoint of step 2 is unusable" in caplog.text
    (checkpoints.path(1) / "state.json").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint in .* is intact"):
        _checkpoints(tmp_path).peek_newest(_tensors(0))
    assert _names(tmp_path) == before


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    with _checkpoints(tmp_path) as checkpoints:
        _save(checkpoints, 1)
    for name in (".DS_Store", ".nfs0000000012", "step_00000009", "notes.txt", "step_x"):
        (folder / name).write_bytes(b"mine")
    (folder / ".cache").mkdir()
    (checkpoints.path(1) / "._shard-00001-model-00001-of-00001.safetensors").write_bytes(b"Mac OS X")
    before = _names(tmp_path)
    with _checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1]
        assert checkpoints.load_newest(_tensors(0)) == Checkpoint(step=1)
    assert _names(tmp_path) == before
