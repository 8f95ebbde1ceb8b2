"""Write files atomically, and read them with a one-line error if they are not what was expected.

A tensor file is a safetensors file whose header has `format` = trimask, `format_version`, `kind` (what it
contains), `config` (JSON, sufficient to rebuild the object that the tensors belong to) and the hash of
everything else.
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

from trimask import modules, seals
from trimask.errors import UserError
from trimask.reading import name_path_in_errors, read_text, require_file

FORMAT = "trimask"
FORMAT_VERSION = "2"
_BEFORE_SEALS = "1"
_HEADER = ("format", "format_version", "kind", "config")
_PARTIAL = re.compile(r"\..*\.([a-z0-9_]{8}\.)?tmp(\.[^/]*)?", re.DOTALL)
"""Names of the temporary files and folders of `atomic_write` and `atomic_folder`."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """The content of a tensor file: tensors by name (on the CPU), the configuration, and further strings."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    metadata: dict[str, str]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on exit, atomically replace `path` by the file written there.

    A crash before that leaves the old file intact, an error removes the temporary file. Missing folders are
    created. Errors are the system's `OSError`, with the path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file: choose another name")
    # The temporary file keeps the suffix, by which image and audio libraries choose the format.
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
    """Yield a new folder beside `path`; on exit, rename it to `path` atomically.

    `path` must not exist, or be an empty folder (else UserError). A crash leaves at most a hidden folder
    beside it, an error leaves nothing.
    """
    path = Path(path).absolute()
    taken = f"{path} exists and is not an empty folder: choose another name"
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
    """Remove the temporary files that a killed process left in `folder` and below.

    Call it only for a folder that this process has locked: files that another process is writing look the
    same.
    """
    for root, folders, files in os.walk(folder):  # links are not followed
        for name in filter(_PARTIAL.fullmatch, files):
            (Path(root) / name).unlink(missing_ok=True)
        for name in list(filter(_PARTIAL.fullmatch, folders)):
            folders.remove(name)
            shutil.rmtree(Path(root) / name, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename the damaged `path` to `PATH.corrupt` (or `.corrupt2`, …) and return the new path."""
    aside = path.with_name(f"{path.name}.corrupt")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt{count}")
    os.replace(path, aside)
    return aside


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented JSON, atomically. NaN and infinity raise ValueError: they are not JSON."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike[str], *, fix: str = "write it again") -> Any:
    """Read a JSON file.

    Args:
        fix: what to do if the file is damaged, for the message.

    Raises:
        FileNotFoundError: there is no file.
        UserError: it is not JSON; the message has the file, the position of the error, and `fix`.
    """
    text = read_text(path, fix=fix)
    try:
        return seals.parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): it may be cut short; {fix}") from error


def write_sealed(path: str | os.PathLike[str], obj: Mapping[str, Any]) -> None:
    """Write an object as `write_json` does, with the hash of its content."""
    write_json(path, seals.seal(obj))


def read_sealed(path: str | os.PathLike[str], *, fix: str | None = None) -> Any:
    """Read, as `read_json` does, what `write_sealed` wrote. Raise UserError also if it has changed since."""
    given = {} if fix is None else {"fix": fix}
    return seals.unseal(read_json(path, **given), Path(path), **given)


def keep_modules(stored: Any, folder: Path) -> list[Path]:
    """Copy into `folder`/modules each user file whose classes a stored configuration names, unless it is
    there already. Return the new copies.
    """
    paths = {folder / modules.MODULES / file.copy: file for file in modules.files_of(stored)}
    new = [path for path in paths if not path.exists()]
    for path in new:
        with atomic_write(path) as temporary:
            temporary.write_bytes(paths[path].source)
    return new


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    kind: str,
    config: Mapping[str, Any],
    **metadata: str,
) -> None:
    """Write a tensor file of this `kind` atomically; `config` is plain JSON, `metadata` further strings."""
    taken = sorted(set(metadata) & {*_HEADER, seals.SEAL})
    assert not taken, f"metadata names {taken} are reserved"
    text = json.dumps(config, allow_nan=False)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "config": text}
    header[seals.SEAL] = seals.UNSEALED
    # Copy: the library rejects tensors that share memory (tied weights, views).
    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(whole, temporary, metadata={**header, **metadata})
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(f"could not write {path}: {error}") from error
        seals.seal_tensors(temporary)


def load_tensors(path: str | os.PathLike[str], *, kind: str) -> Artifact:
    """Read a tensor file of this `kind`.

    Raises:
        FileNotFoundError: there is no file.
        UserError: it is damaged (by as little as one bit), was not written by trimask, or has another version
            or kind.
    """
    require_file(path)
    try:
        with name_path_in_errors(path), safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            _check_header(path, metadata, kind)
            _check_content(Path(path), metadata)
            # Copy: the library returns views of the mapped file, which change when the file does.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        problem = f"{path} is cut short, damaged or not a safetensors file ({error})"
        raise UserError(f"{problem}: write or fetch it again") from error
    try:
        config = seals.parse_json(metadata["config"])
    except ValueError as error:
        raise UserError(f"the config in {path} is not JSON ({error}): write or fetch it again") from error
    if not isinstance(config, dict):
        raise UserError(f"the config in {path} is not a JSON object: write or fetch it again")
    rest = {name: value for name, value in metadata.items() if name not in (*_HEADER, seals.SEAL)}
    return Artifact(tensors=tensors, config=config, metadata=rest)


def open_tensors(path: str | os.PathLike[str], *, kind: str) -> Any:
    """Map a tensor file of this `kind`: `.get_slice(name)[start:stop]` reads that part as a NumPy array.

    The file must never be rewritten in place, since the arrays follow it. Raises as `load_tensors`, but does
    not check the content: the caller must compare the file's hash.
    """
    require_file(path)
    try:
        with name_path_in_errors(path):
            file = safe_open(path, framework="numpy")
    except SafetensorError as error:
        problem = f"{path} is cut short, damaged or not a safetensors file ({error})"
        raise UserError(f"{problem}: write or fetch it again") from error
    _check_header(path, dict(file.metadata() or {}), kind)
    return file


def sha256(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a file's bytes, as hex."""
    return seals.file_sha256(require_file(path))


def _check_header(path: str | os.PathLike[str], metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT or any(name not in metadata for name in _HEADER):
        raise UserError(
            f"{path} is a safetensors file that {FORMAT} did not write: give a file made by {FORMAT}"
        )
    if metadata["format_version"] not in (_BEFORE_SEALS, FORMAT_VERSION):
        versions = f"has format version {metadata['format_version']}, this program reads {FORMAT_VERSION}"
        raise UserError(f"{path} {versions}: write it again, or use the version of {FORMAT} that wrote it")
    if metadata["kind"] != kind:
        raise UserError(f"{path} holds {metadata['kind']!r}, but {kind!r} is needed: give a file with that")


def _check_content(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata["format_version"] == _BEFORE_SEALS:
        if not seals.check_indexed(path):
            seals.warn_unsealed(path)
    else:
        seals.check_tensors(path)


def _mode(path: Path) -> int:
    """Return the permissions of `path`, or those of a new file: temporary files are private by default."""
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
