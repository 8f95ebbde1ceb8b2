"""Files: written whole or not at all, read with one clear line when they are not what was asked for.

A tensor file is a safetensors file whose header says `format` = trimask, `format_version`, `kind` (what it
holds), `config` (JSON, enough to rebuild what the tensors belong to) and the hash of all the rest.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trimask import seals
from trimask.errors import UserError
from trimask.reading import name_path_in_errors, read_text, require_file

FORMAT = "trimask"
FORMAT_VERSION = "2"
_BEFORE_SEALS = "1"
_HEADER = ("format", "format_version", "kind", "config")
_PARTIAL = re.compile(r"\..*\.([a-z0-9_]{8}\.)?tmp(\.[^/]*)?", re.DOTALL)
"""How `atomic_write` and `atomic_folder` name what is not whole yet."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """What a tensor file holds: tensors by name (on the CPU), the configuration, and further strings."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    metadata: dict[str, str]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving, what was written there takes `path`'s place in one
    step.

    A crash before that leaves the old file whole, an error removes the temporary file. Missing folders are
    made. Errors are the `OSError` of the system, with the path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file: choose another name")
    # The temporary file keeps the suffix: writers such as image and audio libraries choose the format by it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(_mode(path))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)  # the rename itself must survive a power cut


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder beside `path`; on leaving, it becomes `path` in one step.

    `path` must not exist, or be an empty folder (else UserError). A crash leaves at most a hidden folder
    beside it, an error nothing.
    """
    path = Path(path).absolute()
    taken = f"{path} exists and is no empty folder: choose another name"
    if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
        raise UserError(taken)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            _sync(entry)
        temporary.chmod(0o777 & ~_umask())
        try:
            os.replace(temporary, path)
        except OSError as error:  # another process was first
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise UserError(taken) from error
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in `folder` and below. Only for a folder
    that this process has locked: what another one is writing looks the same.
    """
    for root, folders, files in os.walk(folder):  # links are not followed
        for name in filter(_PARTIAL.fullmatch, files):
            (Path(root) / name).unlink(missing_ok=True)
        for name in list(filter(_PARTIAL.fullmatch, folders)):
            folders.remove(name)
            shutil.rmtree(Path(root) / name, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename `path`, which is damaged, to `PATH.corrupt` (or `.corrupt2`, …); returns the new name."""
    aside = path.with_name(f"{path.name}.corrupt")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt{count}")
    os.replace(path, aside)
    return aside


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike[str], *, mend: str = "write it again") -> Any:
    """Read a JSON file. Raises `FileNotFoundError`, or `UserError` naming the file, the place where it stops
    being JSON, and the `mend`.
    """
    text = read_text(path, mend=mend)
    try:
        return seals.parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): it may be cut short; {mend}") from error


def write_sealed(path: str | os.PathLike[str], obj: Mapping[str, Any]) -> None:
    """As `write_json`, an object with the hash of its content."""
    write_json(path, seals.seal(obj))


def read_sealed(path: str | os.PathLike[str], *, mend: str | None = None) -> Any:
    """As `read_json`, what `write_sealed` wrote. `UserError` too if it has changed since."""
    given = {} if mend is None else {"mend": mend}
    return seals.unseal(read_json(path, **given), Path(path), **given)


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    kind: str,
    config: Mapping[str, Any],
    **metadata: str,
) -> None:
    """Write a tensor file of this `kind`, atomically. `config` must be plain JSON; `metadata` are further
    strings.
    """
    taken = sorted(set(metadata) & {*_HEADER, seals.SEAL})
    assert not taken, f"metadata names {taken} are reserved"
    text = json.dumps(config, allow_nan=False)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "config": text}
    header[seals.SEAL] = seals.UNSEALED
    # Copied: the library refuses tensors that share memory (tied weights, views).
    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(whole, temporary, metadata={**header, **metadata})
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(f"could not write {path}: {error}") from error
        seals.seal_tensors(temporary)


def load_tensors(path: str | os.PathLike[str], *, kind: str) -> Artifact:
    """Read a tensor file of this `kind`.

    Raises `FileNotFoundError`, or `UserError` for a file that is damaged (one bit is enough), not one of
    this project's, of another version or of another kind.
    """
    require_file(path)
    try:
        with name_path_in_errors(path), safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            _check_header(path, metadata, kind)
            _check_content(Path(path), metadata)
            # Copied: the library hands out views of the mapped file, which change when the file does.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        problem = f"{path} is cut short, damaged or no safetensors file ({error})"
        raise UserError(f"{problem}: write or fetch it again") from error
    try:
        config = seals.parse_json(metadata["config"])
    except ValueError as error:
        raise UserError(f"{path} holds no JSON as its config ({error}): write or fetch it again") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no JSON object as its config: write or fetch it again")
    rest = {name: value for name, value in metadata.items() if name not in (*_HEADER, seals.SEAL)}
    return Artifact(tensors=tensors, config=config, metadata=rest)


def open_tensors(path: str | os.PathLike[str], *, kind: str) -> Any:
    """Map a tensor file of this `kind`: `.get_slice(name)[start:stop]` reads that much, as NumPy arrays.

    For files that are never rewritten in place: what is read follows the file. Raises as `load_tensors`, but
    does not look at the content: that is for whoever holds the file's hash.
    """
    require_file(path)
    try:
        with name_path_in_errors(path):
            file = safe_open(path, framework="numpy")
    except SafetensorError as error:
        problem = f"{path} is cut short, damaged or no safetensors file ({error})"
        raise UserError(f"{problem}: write or fetch it again") from error
    _check_header(path, dict(file.metadata() or {}), kind)
    return file


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, as hex."""
    return seals.file_sha256(require_file(path))


def _check_header(path: str | os.PathLike[str], metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT or any(name not in metadata for name in _HEADER):
        raise UserError(
            f"{path} is a safetensors file, but not one of {FORMAT}'s: give a file made by {FORMAT}"
        )
    if metadata["format_version"] not in (_BEFORE_SEALS, FORMAT_VERSION):
        versions = f"has format version {metadata['format_version']}, this program reads {FORMAT_VERSION}"
        raise UserError(f"{path} {versions}: write it again, or use the program that wrote it")
    if metadata["kind"] != kind:
        raise UserError(
            f"{path} holds {metadata['kind']!r}, but {kind!r} is needed here: give the other file"
        )


def _check_content(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata["format_version"] == _BEFORE_SEALS:
        if not seals.check_indexed(path):
            seals.warn_unsealed(path)
    else:
        seals.check_tensors(path)


def _mode(path: Path) -> int:
    """The permissions of the file to be replaced, or those that a new file would get: temporary files are
    private by default.
    """
    if path.exists():
        return path.stat().st_mode & 0o777
    return 0o666 & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
