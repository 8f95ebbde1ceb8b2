"""Files: whole or not at all; one clear line for what is not ours."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trimask import io, locks

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).view(3, 4),
    "half": torch.ones(5, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}
CONFIG = {"depth": 2, "name": "tiny é", "nested": {"betas": [0.9, 0.99], "none": None}}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    io.save_tensors(path, TENSORS, kind="denoiser", config=CONFIG, note="first")
    return path


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_round_trip(artifact: Path) -> None:
    loaded = io.load_tensors(artifact, kind="denoiser")
    assert loaded.config == CONFIG and loaded.metadata == {"note": "first"}
    assert loaded.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded.tensors[name].dtype == tensor.dtype and torch.equal(loaded.tensors[name], tensor)
    assert only_file(artifact.parent) == artifact


def test_views_and_parameters_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    tensors = {"t": base.t(), "row": base[1], "parameter": torch.nn.Parameter(base)}
    io.save_tensors(tmp_path / "x", tensors, kind="k", config={})
    loaded = io.load_tensors(tmp_path / "x", kind="k").tensors
    assert torch.equal(loaded["t"], base.t()) and torch.equal(loaded["row"], base[1])
    assert torch.equal(loaded["parameter"], base)


def test_tensors_that_share_memory_are_both_stored(tmp_path: Path) -> None:
    tied = torch.ones(4)
    io.save_tensors(tmp_path / "x", {"a": tied, "b": tied}, kind="k", config={})
    assert torch.equal(io.load_tensors(tmp_path / "x", kind="k").tensors["b"], tied)


def test_loaded_tensors_do_not_depend_on_the_file(artifact: Path) -> None:
    loaded = io.load_tensors(artifact, kind="denoiser")
    size = artifact.stat().st_size
    with open(artifact, "r+b") as file:  # in place, as no writer of ours does
        file.write(b"\xff" * size)
    assert torch.equal(loaded.tensors["weight"], TENSORS["weight"])


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        io.save_tensors(tmp_path / name, TENSORS, kind="denoiser", config=CONFIG)
    assert io.sha256(tmp_path / "a") == io.sha256(tmp_path / "b")


def fails(path: Path, kind: str = "denoiser") -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        io.load_tensors(path, kind=kind)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing.safetensors does not exist"):
        io.load_tensors(tmp_path / "nothing.safetensors", kind="denoiser")
    assert "is a folder" in fails(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 50, 0.5, 0.99, -1])
def test_truncated(artifact: Path, kept: float) -> None:
    whole = artifact.read_bytes()
    length = int(kept * len(whole)) if isinstance(kept, float) else kept
    artifact.write_bytes(whole[:length])
    assert "cut short, damaged" in fails(artifact)


@pytest.mark.parametrize("size", [3, 100, 5000])
def test_random_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "noise"
    path.write_bytes(random.Random(size).randbytes(size))
    assert "not a safetensors file" in fails(path)


def test_extra_bytes(artifact: Path) -> None:
    artifact.write_bytes(artifact.read_bytes() + b"more")
    assert "damaged" in fails(artifact)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "trimask"}])
def test_not_ours(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file(TENSORS, path, metadata=metadata)
    assert "trimask did not write" in fails(path)


def test_another_version(artifact: Path) -> None:
    header = {"format": "trimask", "format_version": "99", "kind": "denoiser", "config": "{}"}
    save_file(TENSORS, artifact, metadata=header)
    assert "format version 99, this program reads 2" in fails(artifact)


def test_another_kind_names_both(artifact: Path) -> None:
    message = fails(artifact, kind="image_tokenizer")
    assert "'denoiser'" in message and "'image_tokenizer'" in message


def test_header_names_are_reserved(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="reserved"):
        io.save_tensors(tmp_path / "x", {}, kind="k", config={}, format="mine")


# Atomic writing.


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), io.atomic_write(path) as temporary:
        temporary.write_text("new, half")
        raise RuntimeError("halfway")
    assert path.read_text() == "old" and only_file(tmp_path) == path


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), io.atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("x")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_folders_are_made_and_suffixes_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "picture.png"
    with io.atomic_write(path) as temporary:
        assert temporary.suffix == ".png" and temporary.parent == path.parent
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    with io.atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("x")
    ordinary, ours = ((tmp_path / name).stat().st_mode for name in ("ordinary", "file"))
    assert stat.S_IMODE(ours) == stat.S_IMODE(ordinary)
    (tmp_path / "file").chmod(0o640)
    io.write_json(tmp_path / "file", {})
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_writer_may_replace_the_temporary_file(tmp_path: Path) -> None:
    with io.atomic_write(tmp_path / "file") as temporary:
        temporary.unlink()
        temporary.write_text("fresh")
    assert (tmp_path / "file").read_text() == "fresh"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a/new", "empty"):
        with io.atomic_folder(tmp_path / name) as temporary:
            (temporary / "inside").mkdir()
            (temporary / "inside" / "file").write_text("x")
            assert temporary.parent == (tmp_path / name).parent
        assert (tmp_path / name / "inside" / "file").read_text() == "x"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == stat.S_IMODE((tmp_path / "a").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]


def test_a_folder_that_fails_or_is_in_use(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), io.atomic_folder(tmp_path / "new") as temporary:
        (temporary / "file").write_text("x")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with (
            pytest.raises(ValueError, match="is not an empty folder: choose another"),
            io.atomic_folder(path),
        ):
            raise AssertionError("not reached")


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError, match="taken"):
        io.write_json(tmp_path / "taken", {})


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        io.write_json(tmp_path / "file" / "inside.json", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_names_the_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=str(tmp_path)):
        io.write_json(tmp_path / "x.json", {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_os_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left on device"), io.atomic_write(path) as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("new")
    assert path.read_text() == "old" and only_file(tmp_path) == path


def test_a_failed_tensor_write_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise io.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(io, "save_file", full)
    with pytest.raises(OSError, match=r"model.safetensors: .*No space left"):
        io.save_tensors(tmp_path / "model.safetensors", TENSORS, kind="k", config={})
    assert not list(tmp_path.iterdir())


KILLED_WRITER = """
import sys, time
from trimask.io import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    with open(temporary, "w") as file:
        file.write("new " * 10_000)
        file.flush()
        print("half", flush=True)
        time.sleep(60)
"""


def test_sigkill_in_the_middle_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    io.write_json(path, {"old": True})
    with subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert io.read_json(path) == {"old": True}
    io.write_json(path, {"new": True})  # what the killed writer left behind is in nobody's way
    assert io.read_json(path) == {"new": True}


# JSON.


def test_json_round_trip(tmp_path: Path) -> None:
    io.write_json(tmp_path / "x.json", CONFIG)
    assert io.read_json(tmp_path / "x.json") == CONFIG == json.loads((tmp_path / "x.json").read_bytes())


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"{}{}"])
def test_bad_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.json is not (valid JSON|UTF-8 text)"):
        io.read_json(tmp_path / "x.json")


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x.json does not exist"):
        io.read_json(tmp_path / "x.json")


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        io.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert io.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_is_for_one_process(tmp_path: Path):
    """The lock goes with the process, even if a child of it lives on."""
    folder = tmp_path / "new"
    holder = (
        "import os, sys, time; from trimask import locks\n"
        "with locks.lock(sys.argv[1]):\n"
        "    if os.fork() == 0: time.sleep(60)\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match="in use by another process"), locks.lock(folder):
                pass
            process.kill()
            process.wait()
            with locks.lock(folder):
                pass
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_only_what_is_ours_is_claimed(tmp_path: Path):
    with locks.claim(tmp_path / "new", marker="x.json", what="study"):
        (tmp_path / "new" / "x.json").write_text("{}")
    with locks.claim(tmp_path / "new", marker="x.json", what="study"):
        pass
    occupied = locks.claim(tmp_path / "new", marker="y.json", what="run")
    with pytest.raises(ValueError, match="is not empty and holds no run"), occupied:
        pass
    file = locks.claim(tmp_path / "new" / "x.json", marker="y.json", what="run")
    with pytest.raises(ValueError, match="is a file"), file:
        pass


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [".DS_Store", ".lock", "model.safetensors", "notes.tmp", "deep/.nfs0001"]
    gone = [".model.abcd1234.tmp.safetensors", ".config.a_b1c2d3.tmp.json", "deep/.x.00000000.tmp"]
    (tmp_path / "deep").mkdir()
    for name in (*kept, *gone):
        (tmp_path / name).write_text("x")
    (tmp_path / ".tokenizers.abcdefgh.tmp").mkdir()
    (tmp_path / ".tokenizers.abcdefgh.tmp" / "text.json").write_text("half")
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / ".x.abcd1234.tmp").write_text("of someone else")
    (tmp_path / "link").symlink_to(outside)
    io.remove_partial(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == {*kept, "deep", "link"}
    assert (outside / ".x.abcd1234.tmp").exists()


def test_what_atomic_writers_leave_is_recognized(tmp_path: Path) -> None:
    left: list[str] = []
    for writer, name in ((io.atomic_write, "a.json"), (io.atomic_folder, "tokenizers")):
        with writer(tmp_path / name) as temporary:
            left.append(temporary.name)
    for name in left:
        (tmp_path / name).write_text("half")
    io.remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "tokenizers"]


def test_a_folder_that_another_process_made_first_stays(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match="new exists and is not an empty folder: choose another name")
    with refused, io.atomic_folder(tmp_path / "new") as temporary:
        (temporary / "mine").write_text("x")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").write_text("y")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]
