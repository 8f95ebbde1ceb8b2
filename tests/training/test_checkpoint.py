import errno
import json
import os
import re
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed import DistError

from trimask import io
from trimask.errors import UserError
from trimask.training import checkpoint as module
from trimask.training.checkpoint import Checkpoint, Checkpoints
from trimask.training.run_directory import open_run

CONFIG = {"model": {"depth": 2, "widths": (4, 8)}, "seed": 0}


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step=step, seconds=1.5, tokens=7, skipped=2, window=[{"loss": 0.1}])


def _tensors(step: int) -> dict[str, Tensor]:
    return {
        "weight": torch.full((64, 3), float(step)),
        "half": torch.full((2,), step, dtype=torch.bfloat16),
        "count": torch.tensor(step),
    }


def _checkpoints(run: Path, keep: int = 2, **options: Any) -> Checkpoints:
    return Checkpoints(run, config=CONFIG, keep=keep, **options)


def _save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(_checkpoint(step), _tensors(step))
    checkpoints.wait()


def test_round_trip_keeps_the_newest(tmp_path: Path) -> None:
    with _checkpoints(tmp_path) as checkpoints:
        _save(checkpoints, 3, 6, 9)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_00000006", "step_00000009"]
    into = _tensors(0)
    weight = into["weight"]
    assert _checkpoints(tmp_path).load_newest(into) == _checkpoint(9)
    assert into["weight"] is weight
    for name, tensor in _tensors(9).items():
        assert into[name].dtype == tensor.dtype and torch.equal(into[name], tensor)
    part = {"half": torch.zeros(2, dtype=torch.bfloat16)}
    assert _checkpoints(tmp_path).load_newest(part) == _checkpoint(9)
    assert part["half"].tolist() == [9.0, 9.0]


def test_the_files_are_safetensors_and_plain_json(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1)
    names = sorted(path.name for path in checkpoints.path(1).iterdir())
    assert names == ["shard-00001-model-00001-of-00001.safetensors", "state.json"]
    found = load_file(checkpoints.path(1) / names[0])
    assert found.keys() == _tensors(1).keys() and torch.equal(found["weight"], _tensors(1)["weight"])
    state = json.loads((checkpoints.path(1) / "state.json").read_text())
    assert state["config"] == {"model": {"depth": 2, "widths": [4, 8]}, "seed": 0}
    assert (state["step"], state["num_processes"]) == (1, 1)
    assert list(state["sha256"].items()) == [(names[0], io.sha256(checkpoints.path(1) / names[0]))]


def test_large_states_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimask.training.sharded_tensors._FILE_SIZE", 100)
    checkpoints = _checkpoints(tmp_path)
    tensors = {str(number): torch.full((10,), float(number)) for number in range(5)}
    checkpoints.save(_checkpoint(1), tensors)
    checkpoints.wait()
    assert len(list(checkpoints.path(1).glob("*.safetensors"))) == 3
    into = {name: torch.zeros(10) for name in tensors}
    assert checkpoints.load_newest(into) is not None
    assert all(torch.equal(into[name], tensors[name]) for name in tensors)


def test_tied_tensors_are_saved_under_both_names(tmp_path: Path) -> None:
    weight = torch.arange(6.0)
    checkpoints = _checkpoints(tmp_path)
    checkpoints.save(_checkpoint(1), {"a": weight, "b": weight.view(2, 3)})
    checkpoints.wait()
    into = {"b": torch.zeros(2, 3)}
    assert checkpoints.load_newest(into) is not None and torch.equal(into["b"], weight.view(2, 3))


def test_what_is_saved_is_what_was_there_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, write = threading.Event(), module.write_tensors

    def held(*arguments: Any) -> dict[str, str]:
        assert gate.wait(60)
        return write(*arguments)

    monkeypatch.setattr(module, "write_tensors", held)
    tensors = _tensors(1)
    with _checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):  # the second copies into the memory of the first
            for tensor in tensors.values():
                tensor.fill_(step)
            gate.clear()
            checkpoints.save(_checkpoint(step), tensors)
            tensors["weight"].fill_(99.0)
            assert checkpoints.steps() == list(range(1, step))
            gate.set()
    for step in (2, 1):
        into = _tensors(0)
        assert checkpoints.load_newest(into) == _checkpoint(step)
        assert all(torch.equal(into[name], tensor) for name, tensor in _tensors(step).items())
        shutil.rmtree(checkpoints.path(step))


def _truncate(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-40])


def _flip(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _lose_shard(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.unlink()


def _gain_shard(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    shutil.copy(path, folder / "shard-00002-model-00001-of-00001.safetensors")


def _lose_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def _tear_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"step": 2')


def _come_from_another_run(folder: Path) -> None:
    state = io.read_sealed(folder / "state.json")
    io.write_sealed(folder / "state.json", state | {"config": state["config"] | {"seed": 1}})


def _hold_other_tensors(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    save_file({"weight": torch.zeros(64, 3), "half": torch.zeros(2, dtype=torch.bfloat16)}, path)
    state = io.read_sealed(folder / "state.json")
    io.write_sealed(folder / "state.json", state | {"sha256": {path.name: io.sha256(path)}})


def _be_edited(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"tokens": 8}))


def _lead_elsewhere(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.rename(folder.parent / path.name)
    state = io.read_sealed(folder / "state.json")
    names = {f"../{name}": digest for name, digest in state["sha256"].items()}
    io.write_sealed(folder / "state.json", state | {"sha256": names})


def _be_of_other_types(folder: Path) -> None:
    state = io.read_sealed(folder / "state.json")
    io.write_sealed(folder / "state.json", state | {"window": 7})


def _nest(folder: Path) -> None:
    (folder / "state.json").write_text("[" * 100_000 + "]" * 100_000)


def _be_a_pipe(folder: Path) -> None:
    (folder / "state.json").unlink()
    os.mkfifo(folder / "state.json")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncate, "truncated or altered"),
        (_flip, "truncated or altered"),
        (_lose_shard, "does not exist"),
        (_gain_shard, "is not part of what was written"),
        (_lose_state, "state.json does not exist"),
        (_tear_state, "not valid JSON"),
        (_be_edited, "state.json is damaged"),
        (_lead_elsewhere, "is not the state of step 2"),
        (_be_of_other_types, "is not the state of step 2"),
        (_nest, "nested deeper than 100"),
        (_be_a_pipe, "is a pipe"),
        (_hold_other_tensors, "does not hold the required tensors: Missing key .* count"),
    ],
)
def test_a_damaged_newest_is_set_aside(
    damage: Callable[[Path], None], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1, 2)
    damage(checkpoints.path(2))
    into = _tensors(0)
    assert _checkpoints(tmp_path).load_newest(into) == _checkpoint(1)
    assert torch.equal(into["weight"], _tensors(1)["weight"])
    assert re.search(f"checkpoint of step 2 is unusable .*{reason}", caplog.text)
    assert (tmp_path / "checkpoints" / "step_00000002.corrupt").is_dir()
    _save(checkpoints, 2)  # the name is free again


def test_a_checkpoint_of_another_run_is_named_and_kept(tmp_path: Path) -> None:
    """It is intact: `config.json` may be another run's, and then every checkpoint seems to be."""
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1, 2)
    _come_from_another_run(checkpoints.path(2))
    for read in (checkpoints.load_newest, checkpoints.peek_newest, partial(checkpoints.load_step, 2)):
        with pytest.raises(UserError, match=r"another config: seed was 1, is 0\. Restore .*config\.json"):
            read(_tensors(0))
    assert checkpoints.steps() == [1, 2]
    assert not list((tmp_path / "checkpoints").glob("*.corrupt"))


@pytest.mark.parametrize(
    "error", [MemoryError("128 GiB"), torch.OutOfMemoryError("on the device"), DistError("lost")]
)
def test_what_is_not_the_files_fault_sets_nothing_aside(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that is whole stays the newest where there is no room to read it."""
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1, 2)

    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("torch.distributed.checkpoint.state_dict_loader.load", fail)
        with pytest.raises(type(error), match=str(error)):
            _checkpoints(tmp_path).load_newest(_tensors(0))
    assert _checkpoints(tmp_path).load_newest(_tensors(0)) == _checkpoint(2)


def test_none_whole_is_an_error_and_stays_one(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path)
    assert checkpoints.load_newest(_tensors(0)) is None
    _save(checkpoints, 1)
    _truncate(checkpoints.path(1))
    for _ in range(2):
        with pytest.raises(ValueError, match="start again with another --out"):
            checkpoints.load_newest(_tensors(0))


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow past 4 KiB: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_no_space_leaves_the_last_whole_and_says_so(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1)
    large = {"weight": torch.zeros(64, 64)}
    message = r"could not write .*step_00000002: File too large; the last whole checkpoint is .*step_00000001"
    checkpoints.save(_checkpoint(2), large)
    with pytest.raises(OSError, match=message) as caught:
        checkpoints.wait()
    assert caught.value.errno == errno.EFBIG and not checkpoints.has_failed
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert checkpoints.load_newest(_tensors(0)) == _checkpoint(1)
    # The one before is waited for, and its error raised, by the next.
    checkpoints.save(_checkpoint(2), large)
    with pytest.raises(OSError, match=message):
        checkpoints.save(_checkpoint(3), _tensors(3))


def test_no_space_for_the_state_removes_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = _checkpoints(tmp_path)
    _save(checkpoints, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.io, "write_sealed", full)
    with pytest.raises(
        OSError, match=r"No space left on device; the last whole checkpoint is .*step_00000001"
    ):
        _save(checkpoints, 2)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]


def test_leftovers_of_a_killed_writer_are_removed_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".step_00000005.tmp"
    leftover.mkdir(parents=True)
    (leftover / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    assert _checkpoints(tmp_path).load_newest(_tensors(0)) is None
    assert leftover.exists()  # who only reads leaves a run alone that may be going on
    with _checkpoints(tmp_path):
        assert not leftover.exists()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty: use --resume, or choose another --out"):
        open_run(tmp_path, CONFIG, resume=False)
    with pytest.raises(ValueError, match="it is not a run: choose another --out"):
        open_run(tmp_path, CONFIG, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_another_config_is_refused_by_field(tmp_path: Path) -> None:
    open_run(tmp_path / "run", CONFIG, resume=True)  # nothing there yet: a start
    open_run(tmp_path / "run", CONFIG, resume=True)
    changed = {"model": {"depth": 3, "widths": (4, 8)}, "seed": 0, "extra": 1}
    with pytest.raises(ValueError, match=r"extra was '\(absent\)', is 1; model.depth was 2, is 3\."):
        open_run(tmp_path / "run", changed, resume=True)


def test_a_file_in_the_way_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        open_run(tmp_path / "run", CONFIG, resume=False)


@dataclass(frozen=True)
class _Config:
    seed: int
    rate: float = 0.5


def test_a_field_that_was_added_since_counts_as_its_default(tmp_path: Path) -> None:
    before = {"run": {"seed": 0}}
    open_run(tmp_path, before, resume=False)
    with Checkpoints(tmp_path, config=before, keep=2) as checkpoints:
        _save(checkpoints, 1)
    changed = {"run": _Config(seed=0, rate=0.25)}
    with pytest.raises(ValueError, match=r"another config: run\.rate was 0\.5, is 0\.25\."):
        open_run(tmp_path, changed, resume=True)
    now = {"run": _Config(seed=0)}
    open_run(tmp_path, now, resume=True)
    assert io.read_sealed(tmp_path / "config.json") == {"run": {"seed": 0, "rate": 0.5}}
    assert Checkpoints(tmp_path, config=now, keep=2).load_newest(_tensors(0)) == _checkpoint(1)
    with pytest.raises(ValueError, match=r"another config: run\.rate was 0\.5, is 0\.25\. Restore"):
        Checkpoints(tmp_path, config=changed, keep=2).load_newest(_tensors(0))


def test_what_may_change_is_noted_and_no_other_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    may_change = ("run.compute",)
    before = {"run": {"compute": {"compile": False}, "seed": 0}}
    after = {"run": {"compute": {"compile": True, "replicas": 2}, "seed": 0}}
    open_run(tmp_path, before, resume=False, may_change=may_change)
    with Checkpoints(tmp_path, config=before, keep=2, may_change=may_change) as checkpoints:
        _save(checkpoints, 1)
    with pytest.raises(
        ValueError, match=r"config: run\.compute\.compile was False, is True; run\.compute\.replicas"
    ):
        open_run(tmp_path, after, resume=True)
    open_run(tmp_path, after, resume=True, may_change=may_change)
    assert io.read_sealed(tmp_path / "config.json") == after
    for known in (may_change, ()):  # who reads need not know
        into = _tensors(0)
        assert Checkpoints(tmp_path, config=after, keep=2, may_change=known).load_newest(into) == _checkpoint(
            1
        )
    other = {"run": after["run"] | {"seed": 1}}
    with pytest.raises(ValueError, match=r"another config: run\.seed was 0, is 1\."):
        open_run(tmp_path, other, resume=True, may_change=may_change)
    with pytest.raises(ValueError, match=r"another config: run\.seed was 0, is 1\. Restore"):
        Checkpoints(tmp_path, config=other, keep=2, may_change=may_change).load_newest(_tensors(0))
