"""Files that can tell whether they are as they were written, and plain JSON.

- A tensor file (safetensors) and a JSON object carry the SHA-256 of all the rest of them, under `SEAL`.
- A folder with files of other formats has an index of their SHA-256, `INDEX`.

To check a file is to read it once more: about 1 GB/s on one core, from memory or a fast disk.
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
"""As long as a seal: what stands in a tensor file's metadata until it is sealed."""
_MOST_NESTED = 100  # deeper than anything of ours, and shallow enough for recursion
_CHUNK = 1 << 20
_MEND = "write or fetch it again"


def parse_json(text: str) -> Any:
    """The value of `text`. UserError if it is no JSON, nests deeper than 100, or holds NaN, infinity or half
    a character (a lone surrogate).
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
    """`value`, a JSON object, with its seal."""
    assert SEAL not in value
    return {**value, SEAL: _PREFIX + hashlib.sha256(_canonical(value)).hexdigest()}


def unseal(value: Any, name: str | Path, *, mend: str = _MEND) -> Any:
    """`value`, the JSON of `name`, without its seal. UserError with `mend` if it has one and is not what was
    sealed.

    What an earlier version wrote has none: that is told, once.
    """
    if not isinstance(value, dict):
        return value
    if SEAL not in value:
        if any(isinstance(item, str) and item.startswith(_PREFIX) for item in value.values()):
            _raise_altered(name, mend)
        warn_unsealed(name)
        return value
    rest = {key: item for key, item in value.items() if key != SEAL}
    if seal(rest) != value:
        _raise_altered(name, mend)
    return rest


def seal_tensors(path: Path) -> None:
    """Put the seal into a tensor file whose metadata hold `UNSEALED` under `SEAL`, and sort its header.

    The library writes the metadata in another order each time; sorted, equal tensors give equal files.
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
    """UserError if a tensor file is not what was sealed, or has lost its seal."""
    with open(path, "rb") as file:
        _, header = _header(file)
        found = header["__metadata__"].pop(SEAL, None)
        if found != _PREFIX + _digest(file, header):
            _raise_altered(path)


def write_index(folder: Path, hashes: Mapping[str, str]) -> None:
    """Leave `hashes` (of files in `folder`, by name) there. Not atomic: for a folder that is being made."""
    (folder / INDEX).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


def read_index(folder: Path) -> dict[str, str] | None:
    """The hashes that `folder` holds of its files; None if it has no index. UserError if it is damaged."""
    path = folder / INDEX
    if not os.path.lexists(path):
        return None
    text = read_text(path)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): copy {folder} again, from where it came") from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise UserError(f"{path} is no index of hashes: copy {folder} again, from where it came")
    return value


def check_indexed(path: Path) -> bool:
    """Whether the index beside `path`, if there is one, has it. UserError if it has another hash for it."""
    expected = (read_index(path.parent) or {}).get(path.name)
    if expected is not None and file_sha256(path) != expected:
        _raise_altered(path)
    return expected is not None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hex."""
    with name_path_in_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _warned_files() -> set[str]:
    return set()


def warn_unsealed(name: str | Path) -> None:
    """Say, once in the life of this process, that there are files whose content cannot be checked."""
    if not _warned_files():
        _warned_files().add(str(name))
        logger.warning(
            "%s (and perhaps other files) has no hash, since an earlier version wrote it: damage to it goes "
            "unnoticed",
            name,
        )


def _containers(item: Any) -> list[Any]:
    children = item.values() if isinstance(item, dict) else item
    return [child for child in children if isinstance(child, dict | list)]


def _header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    size = int.from_bytes(file.read(8), "little")
    return size, json.loads(file.read(size))


def _digest(file: BinaryIO, header: Mapping[str, Any]) -> str:
    """Of a tensor file without its seal; `file` stands behind the header."""
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


def _raise_altered(name: str | Path, mend: str = _MEND) -> NoReturn:
    raise UserError(f"{name} is not as it was written, it is damaged: {mend}")
