import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trimask.io import save_tensors
from trimask.training import checkpoint as module
from trimask.training.checkpoint import Checkpoint, Checkpoints, open_run

CONFIG = {"model": {"depth": 2, "widths": (4, 8)}, "seed": 0}


def _checkpoint(step: int) -> Checkpoint:
    tensors = {"weight": torch.full((64, 3), float(step)), "half": torch.ones(2, dtype=torch.bfloat16)}
    return Checkpoint(step=step, tensors=tensors, seconds=1.5, tokens=7, window=[{"loss": 0.1}])


def _checkpoints(run: Path, keep: int = 2) -> Checkpoints:
    return Checkpoints(run, config=CONFIG, keep=keep)


def test_round_trip_keeps_the_newest(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path)
    for step in (3, 6, 9):
        checkpoints.save(_checkpoint(step))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_00000006", "step_00000009"]
    restored = _checkpoints(tmp_path).load_newest()
    assert restored is not None
    assert (restored.step, restored.seconds, restored.tokens, restored.window) == (9, 1.5, 7, [{"loss": 0.1}])
    for name, tensor in _checkpoint(9).tensors.items():
        assert restored.tensors[name].dtype == tensor.dtype
        assert torch.equal(restored.tensors[name], tensor)


def test_tied_tensors_are_saved_under_both_names(tmp_path: Path) -> None:
    weight = torch.arange(6.0)
    _checkpoints(tmp_path).save(Checkpoint(step=1, tensors={"a": weight, "b": weight.view(2, 3)}))
    restored = _checkpoints(tmp_path).load_newest()
    assert restored is not None and torch.equal(restored.tensors["b"], restored.tensors["a"].view(2, 3))


def _truncate(folder: Path) -> None:
    path = folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def _flip(folder: Path) -> None:
    path = folder / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _lose_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def _tear_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"step": 2')


def _come_from_another_run(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"config_fingerprint": "0"}))


def _be_another_kind(folder: Path) -> None:
    save_tensors(folder / "state.safetensors", {"a": torch.zeros(1)}, kind="image_tokenizer", config={})
    state = json.loads((folder / "state.json").read_text())
    digest = module.sha256(folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(state | {"sha256": digest}))


@pytest.mark.parametrize(
    "damage", [_truncate, _flip, _lose_state, _tear_state, _come_from_another_run, _be_another_kind]
)
def test_a_damaged_newest_is_set_aside(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = _checkpoints(tmp_path)
    checkpoints.save(_checkpoint(1))
    checkpoints.save(_checkpoint(2))
    damage(checkpoints.path(2))
    restored = _checkpoints(tmp_path).load_newest()
    assert restored is not None and restored.step == 1
    assert "checkpoint of step 2 is unusable" in caplog.text
    assert (tmp_path / "checkpoints" / "step_00000002.corrupt").is_dir()
    checkpoints.save(_checkpoint(2))  # the name is free again


def test_none_whole_is_an_error_and_stays_one(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path)
    assert checkpoints.load_newest() is None
    checkpoints.save(_checkpoint(1))
    _truncate(checkpoints.path(1))
    for _ in range(2):
        with pytest.raises(ValueError, match="start again with another --out"):
            checkpoints.load_newest()


def test_no_space_leaves_the_last_whole_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = _checkpoints(tmp_path)
    checkpoints.save(_checkpoint(1))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(
        OSError, match="No space left on device; the last whole checkpoint is .*step_00000001"
    ):
        checkpoints.save(_checkpoint(2))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".step_00000005.tmp"
    leftover.mkdir(parents=True)
    (leftover / "state.safetensors").write_bytes(b"half")
    assert _checkpoints(tmp_path).load_newest() is None
    assert not leftover.exists()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty: use --resume, or choose another --out"):
        open_run(tmp_path, CONFIG, resume=False)
    with pytest.raises(ValueError, match="it is no run: choose another --out"):
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
