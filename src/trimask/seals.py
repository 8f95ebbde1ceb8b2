"""Detect changed or damaged files by their hash, and parse plain JSON.

- A tensor file (safetensors) and a JSON object contain the SHA-256 of the rest of them, under `SEAL`.
- A folder with files of other formats has an index of their SHA-256, `INDEX`.

Checking a file reads it once more: about 1 GB/s on one core, from memory or a fast disk.
"""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from trimask.errors import UserError
from trimask.reading import name_path_in_errors, read_text

logger = logging.getLogger(__name__)

SEAL = "sha256_of_rest"
INDEX = "sha256.json"
_PREFIX = "sha256:"
UNSEALED = _PREFIX + 64 * "0"
"""Placeholder of a seal's length in a tensor file's metadata, until the file is sealed."""
_MOST_NESTED = 100  # deeper than any file of trimask, and shallow enough for recursion
_CHUNK = 1 << 20
_FIX = "write or fetch it again"


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: `text` is not JSON.
        UserError: it is nested deeper than 100 levels, or contains NaN or infinity.
        UnicodeEncodeError: it contains a lone surrogate.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        _raise_too_deep()
    level = _containers([value])
    for _ in range(_MOST_NESTED):
        if not level:
            return value
        level = [child for item in level for child in _containers(item)]
    _raise_too_deep()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return `value`, a JSON object, with its hash under `SEAL`."""
    assert SEAL not in value
    return {**value, SEAL: _PREFIX + hashlib.sha256(_canonical(value)).hexdigest()}


def unseal(value: Any, name: str | Path, *, fix: str = _FIX) -> Any:
    """Check the seal of `value`, the JSON of the file `name`, and return the value without it.

    Files of an earlier version have no seal: log that once, and return the value.

    Raises:
        UserError: the value has changed since it was sealed; the message ends with `fix`.
    """
    if not isinstance(value, dict):
        return value
    if SEAL not in value:
        if any(isinstance(item, str) and item.startswith(_PREFIX) for item in value.values()):
            _raise_altered(name, fix)
        warn_unsealed(name)
        return value
    rest = {key: item for key, item in value.items() if key != SEAL}
    if seal(rest) != value:
        _raise_altered(name, fix)
    return rest


def seal_tensors(path: Path) -> None:
    """Seal a tensor file whose metadata has `UNSEALED` under `SEAL`, and sort its header.

    The library writes the metadata in random order; sorted, equal tensors give equal files.
    """
    with open(path, "r+b") as file:
        size, header = _header(file)
        metadata = dict(sorted(header["__metadata__"].items()))
        assert metadata.pop(SEAL) == UNSEALED
        sealed = metadata | {SEAL: _PREFIX + _digest(file, {**header, "__metadata__": metadata})}
        header["__metadata__"] = dict(sorted(sealed.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "the header grew by sorting"
        file.seek(8)
        file.write(text.ljust(size))


def check_tensors(path: Path) -> None:
    """Raise UserError if a tensor file has changed since it was sealed, or has lost its seal."""
    with open(path, "rb") as file:
        _, header = _header(file)
        found = header["__metadata__"].pop(SEAL, None)
        if found != _PREFIX + _digest(file, header):
            _raise_altered(path)


def write_index(folder: Path, hashes: Mapping[str, str]) -> None:
    """Write `hashes` (file name -> SHA-256) as the index of `folder`. Not atomic: for a temporary folder."""
    (folder / INDEX).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


def read_index(folder: Path) -> dict[str, str] | None:
    """Read the index of `folder`, file name -> SHA-256; None without one. UserError if it is damaged."""
    path = folder / INDEX
    if not os.path.lexists(path):
        return None
    text = read_text(path)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): copy {folder} again from its origin") from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise UserError(f"{path} is not an index of hashes: copy {folder} again from its origin")
    return value


def check_indexed(path: Path) -> bool:
    """Whether the index beside `path` lists it. Raise UserError if its hash there is another one."""
    expected = (read_index(path.parent) or {}).get(path.name)
    if expected is not None and file_sha256(path) != expected:
        _raise_altered(path)
    return expected is not None


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, as hex."""
    with name_path_in_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _warned_files() -> set[str]:
    return set()


def warn_unsealed(name: str | Path) -> None:
    """Warn, once per process, that there are files whose content cannot be checked."""
    if not _warned_files():
        _warned_files().add(str(name))
        logger.warning(
            "%s (and perhaps other files) has no hash, since an earlier version wrote it: its damage cannot "
            "be detected",
            name,
        )


def _containers(item: Any) -> list[Any]:
    children = item.values() if isinstance(item, dict) else item
    return [child for child in children if isinstance(child, dict | list)]


def _header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    size = int.from_bytes(file.read(8), "little")
    return size, json.loads(file.read(size))


def _digest(file: BinaryIO, header: Mapping[str, Any]) -> str:
    """Hash a tensor file without its seal; `file` must be positioned after the header."""
    digest = hashlib.sha256(_canonical(header))
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise UserError(f"{constant} is not JSON")


def _raise_too_deep() -> NoReturn:
    raise UserError(f"it is nested deeper than {_MOST_NESTED}")


def _raise_altered(name: str | Path, fix: str = _FIX) -> NoReturn:
    raise UserError(f"{name} is damaged, it has changed since it was written: {fix}")
