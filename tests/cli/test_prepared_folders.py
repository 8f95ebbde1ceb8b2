"""Prepared folders as nobody should have them: one line in every verb, and nothing outside is touched."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trimask import seals
from trimask.cli import main
from trimask.prepare.manifest import Manifest
from trimask.prepare.record import load_record, read_record, record_path

SMALL = ["--model.width=16", "--model.num-heads=1", "--log-every=1", "--threads=1", "--num-steps=1"]
DEEP = "[" * 100_000
OUTSIDE = "precious.safetensors"


@pytest.fixture(scope="module")
def made(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `raw`, what was prepared from it, `data`, and a file beside them that is none of ours."""
    root = tmp_path_factory.mktemp("made")
    (root / "raw").mkdir()
    lines = "".join(json.dumps({"text": f"Line {number}. It ends."}) + "\n" for number in range(40))
    (root / "raw" / "lines.jsonl").write_text(lines)
    assert main(again(root, tokenizers_folder)) == 0
    (root / OUTSIDE).write_bytes(b"precious")
    return root


def again(root: Path, tokenizers: Path) -> list[str]:
    words = ["prepare", str(root / "raw"), "--out", str(root / "data"), "--tokenizers", str(tokenizers)]
    return [*words, "--workers=1", "--validation=0.2"]


def verbs(root: Path, tokenizers: Path, name: str) -> list[list[str]]:
    """Those that read the file `name` of a prepared folder."""
    if name != "manifest.json":
        return [again(root, tokenizers)]
    data = str(root / "data")
    train = ["train", "debug", "--data", data, "--dry-run", "--out", str(root / "run"), *SMALL]
    return [["show", "debug", "--data", data], train, ["prepare", "--verify", data]]


def check_verbs(root: Path, tokenizers: Path, name: str, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """The exit status of each verb; each fails with one line or does its work, and leaves others' files."""
    statuses = []
    for words in verbs(root, tokenizers, name):
        capsys.readouterr()
        status = main(words)
        error = capsys.readouterr().err
        assert status in (0, 1, 2), words
        assert "Traceback" not in error and (status == 0 or error.count("error:") <= 1), error
        statuses.append(status)
    assert (root / OUTSIDE).read_bytes() == b"precious"
    return statuses


@contextlib.contextmanager
def copied(made: Path, tmp_path: Path):
    root = tmp_path / "copy"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(made, root, symlinks=True)
    yield root


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """As someone does who knows how it is sealed."""
    stored = json.loads(path.read_text())
    is_sealed = stored.pop(seals.SEAL, None) is not None
    change(stored)
    path.write_text(json.dumps(seals.seal(stored) if is_sealed else stored))


@pytest.mark.parametrize(
    "name",
    [
        *["../precious.safetensors", "/{root}/precious.safetensors", "train/../../precious.safetensors", "."],
        *["train/text-000000-000.safetensors/../../../precious.safetensors", "", "train\0x", "\ud800"],
    ],
)
def test_a_shard_is_never_looked_for_elsewhere(
    name: str, made: Path, tmp_path: Path, tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
):
    with copied(made, tmp_path) as root:
        name = name.replace("{root}", str(root))

        def change(stored: dict[str, Any]) -> None:
            stored["shards"][0]["file"] = name

        edit(root / "data" / "manifest.json", change)
        edit(root / "data" / "parts" / "000000.json", change)
        with pytest.raises(ValueError, match=r"is damaged|is not valid JSON"):
            Manifest.load(root / "data")
        assert all(check_verbs(root, tokenizers_folder, "manifest.json", capsys))
        assert not list(root.rglob("*.corrupt"))
        (root / "data" / "manifest.json").unlink()
        assert main(again(root, tokenizers_folder)) == 0  # a record that is not ours is made anew
        assert Manifest.load(root / "data") == Manifest.load(made / "data")


@pytest.mark.parametrize("linked", ["train", "train/text-000000-000.safetensors"])
def test_links_in_a_prepared_folder_are_not_followed(
    linked: str, made: Path, tmp_path: Path, tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
):
    with copied(made, tmp_path) as root:
        place, moved = root / "data" / linked, root / "moved"
        os.rename(place, moved)
        os.symlink(moved, place)
        before = sorted(path.name for path in root.rglob("*"))
        assert main(["prepare", "--verify", str(root / "data")]) == 1
        assert "is a link" in capsys.readouterr().err
        assert sorted(path.name for path in root.rglob("*")) == before
        assert main(again(root, tokenizers_folder)) == 2
        assert sorted(path.name for path in root.rglob("*")) == before


def test_a_prepared_folder_may_itself_be_linked(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "data").symlink_to(made / "data")
    assert main(["prepare", "--verify", str(tmp_path / "data")]) == 0


@pytest.mark.parametrize("name", ["manifest.json", "prepare.json", "parts/000000.json"])
@pytest.mark.parametrize(
    "text",
    [
        *[
            DEEP,
            '{"format_version": 1, "shards": ' + "[" * 900 + "]" * 900 + "}",
            '"x"',
            "",
            "{}",
            "9" * 5000,
        ],
        '{"format_version": 1, "shards": "\\ud800"}',
    ],
)
def test_state_that_is_not_ours(
    name: str,
    text: str,
    made: Path,
    tmp_path: Path,
    tokenizers_folder: Path,
    capsys: pytest.CaptureFixture[str],
):
    with copied(made, tmp_path) as root:
        (root / "data" / name).write_text(text)
        statuses = check_verbs(root, tokenizers_folder, name, capsys)
        assert all(statuses) or name.startswith("parts")  # a part is made anew


@pytest.mark.parametrize("name", ["manifest.json", "prepare.json", "parts/000000.json", ".lock"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "nowhere"])
def test_what_is_no_file(
    name: str,
    kind: str,
    made: Path,
    tmp_path: Path,
    tokenizers_folder: Path,
    capsys: pytest.CaptureFixture[str],
):
    """A pipe would keep us waiting for ever; what a link leads to is not written."""
    with copied(made, tmp_path) as root:
        path = root / "data" / name
        path.unlink()
        target = root / OUTSIDE
        make = {
            "pipe": lambda: os.mkfifo(path),
            "folder": path.mkdir,
            "link": lambda: path.symlink_to(target),
            "nowhere": lambda: path.symlink_to(root / "nowhere"),
        }
        make[kind]()
        check_verbs(root, tokenizers_folder, name, capsys)
        if name == ".lock":
            assert not (root / "nowhere").exists() and main(again(root, tokenizers_folder)) == 2


@pytest.mark.parametrize("name", ["manifest.json", "parts/000000.json"])
def test_one_flipped_bit_of_the_state_is_found(
    name: str, made: Path, tmp_path: Path, tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
):
    with copied(made, tmp_path) as root:
        path = root / "data" / name
        whole = path.read_bytes()
        place = whole.index(b'"num_examples": ') + len(b'"num_examples": ')
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if name == "manifest.json":
            with pytest.raises(ValueError, match="is damaged"):
                Manifest.load(root / "data")
            path.unlink()
        assert main(again(root, tokenizers_folder)) == 0
        assert path.read_bytes() == whole


def test_one_flipped_bit_of_the_request_is_found(
    made: Path, tmp_path: Path, tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
):
    with copied(made, tmp_path) as root:
        path = root / "data" / "prepare.json"
        whole = path.read_bytes()
        for bit in range(0, 8 * len(whole), 997):
            path.write_bytes(
                whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]
            )
            capsys.readouterr()
            assert main(again(root, tokenizers_folder)) == 2
            (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
            assert f"{path} is not" in line or f"{path} is damaged" in line, line


def test_verify_looks_at_the_tokenizers_too(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with copied(made, tmp_path) as root:
        path = root / "data" / "tokenizers" / "speech.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        capsys.readouterr()
        assert main(["prepare", "--verify", str(root / "data")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "tokenizers is not what" in line and "prepare the data again" in line


def test_one_flipped_bit_of_a_shard_or_a_tokenizer_is_found(
    made: Path, tmp_path: Path, tokenizers_folder: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("train/text-000000-000.safetensors", "tokenizers/image.safetensors"):
        with copied(made, tmp_path) as root:
            path = root / "data" / name
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            capsys.readouterr()
            assert (
                main(["train", "debug", "--data", str(root / "data"), "--out", str(root / "run"), *SMALL])
                != 0
            )
            assert "prepare" in capsys.readouterr().err.splitlines()[-1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([1e308, 10**9, 10**400, -1, 2**63, 1e-320])
    | st.sampled_from(["../x", "/", "train/text-000000-000.safetensors", "\ud800", "\0", ""])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where each value of a JSON object stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for name, item in items for place in places(item, (*path, name))]


def changed(stored: Any, data: st.DataObject) -> Any:
    """`stored` with any value anywhere."""
    place = data.draw(st.sampled_from(places(stored)))
    holder = stored
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = data.draw(JSON)
    return stored


@pytest.mark.parametrize("name", ["manifest.json", "prepare.json"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(data=st.data())
def test_any_value_anywhere_in_the_state(
    name: str,
    data: st.DataObject,
    made: Path,
    tmp_path: Path,
    tokenizers_folder: Path,
    capsys: pytest.CaptureFixture[str],
):
    with copied(made, tmp_path) as root:
        path = root / "data" / name
        edit(path, lambda stored: changed(stored, data))
        check_verbs(root, tokenizers_folder, name, capsys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_record_with_any_value_anywhere_is_none(data: st.DataObject, made: Path, tmp_path: Path):
    record = load_record(made / "data", 0)
    assert record is not None
    (tmp_path / "parts").mkdir(exist_ok=True)
    stored = json.loads(record_path(made / "data", 0).read_text())
    before = json.dumps(stored)
    now = json.dumps(changed(stored, data))
    record_path(tmp_path, 0).write_text(now)
    assert read_record(tmp_path, 0) == (record if now == before else None)
