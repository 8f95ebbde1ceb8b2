"""One flipped bit is found, wherever it is; JSON that is not plain is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimask import io, seals

PACKAGE = Path(seals.__file__).parent


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_each_bit_of_a_tensor_file_is_covered(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(4.0), "b": torch.tensor([7, 8], dtype=torch.int32)}
    io.save_tensors(path, tensors, kind="k", config={"depth": 2}, steps="4")
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            io.load_tensors(path, kind="k")
        assert "\n" not in str(caught.value)


def test_each_bit_of_a_sealed_object_is_covered(tmp_path: Path) -> None:
    path, value = tmp_path / "x.json", {"step": 12, "rate": 1e-3, "names": ["a", "é"], "none": None}
    io.write_sealed(path, value)
    assert io.read_sealed(path) == value
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            io.read_sealed(path)
        assert "\n" not in str(caught.value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), plain).filter(lambda value: seals.SEAL not in value))
def test_what_is_sealed_comes_back(value: dict[str, object]) -> None:
    try:
        text = json.dumps(seals.seal(value))
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert seals.unseal(seals.parse_json(text), "x") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested deeper"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "Infinity is not JSON"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("1" * 5000, "4300"),
        ("", "Expecting value"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_no_plain_json_is_a_value_error(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        seals.parse_json(text)


def test_an_older_file_is_read_and_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seals._warned_files.cache_clear()
    for name in ("a.json", "b.json"):
        io.write_json(tmp_path / name, {"step": 1})
        assert io.read_sealed(tmp_path / name) == {"step": 1}
    assert len([record for record in caplog.records if "has no hash" in record.message]) == 1


@pytest.mark.parametrize("folder", sorted((PACKAGE / "assets").iterdir()), ids=lambda folder: folder.name)
def test_what_ships_has_an_index_that_holds(folder: Path) -> None:
    index = seals.read_index(folder)
    assert index
    data = {path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".parquet")}
    assert data <= index.keys()
    for name, digest in index.items():
        assert seals.file_sha256(folder / name) == digest, f"{folder / name}: write_index again"


def test_an_index_finds_a_flipped_bit(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    assert not seals.check_indexed(tmp_path / "a.bin")
    seals.write_index(tmp_path, {"a.bin": seals.file_sha256(tmp_path / "a.bin")})
    assert seals.check_indexed(tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes(flipped(b"content", 9))
    with pytest.raises(ValueError, match=r"a.bin is damaged"):
        seals.check_indexed(tmp_path / "a.bin")
    (tmp_path / seals.INDEX).write_text("[1]")
    with pytest.raises(ValueError, match="not an index of hashes"):
        seals.check_indexed(tmp_path / "a.bin")
