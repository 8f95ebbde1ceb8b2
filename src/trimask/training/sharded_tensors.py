"""Tensors of one or many processes as a folder of safetensors files: each writes and reads its part."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, final

from torch import OutOfMemoryError, Tensor

from trimask.errors import UserError
from trimask.io import sha256
from trimask.training.distributed import World

# The library makes the bytes of a whole file before it writes them.
_FILE_SIZE = 2**30  # bytes


def local(tensor: Tensor) -> Tensor:
    """What this process holds of `tensor`: its shard, or all of a plain tensor. The same memory."""
    # Asked, rather than compared with DTensor, whose module takes half a second to import.
    to_local = getattr(tensor, "to_local", None)
    return (tensor if to_local is None else to_local()).detach()


@final
class HostCopies:
    """Copies of tensors on the host, in memory that is used again each time."""

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies that share no memory with `tensors`, nor with each other (tied weights); sharded alike."""
        self._copies = {name: self._copy(name, tensor) for name, tensor in tensors.items()}
        return dict(self._copies)

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        old = self._copies.get(name)
        if old is None or old.shape != tensor.shape or old.dtype != tensor.dtype:
            return tensor.detach().to("cpu", copy=True).contiguous()
        local(old).copy_(local(tensor))
        return old


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], world: World) -> dict[str, str]:
    """Writes `tensors` (on the host, of the same names in all processes) into `folder`, flushed to disk.

    Returns the SHA-256 of each file of all processes. An OSError of any process is raised in all.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(
        str(folder), fqn_to_index_mapping=_file_numbers(tensors), save_distributed=True
    )
    with _first_failure():
        save(
            dict(tensors),
            storage_writer=writer,
            process_group=world.control,
            no_dist=world.control is None,
        )
    own = f"shard-{world.rank + 1:05d}-*.safetensors"  # as the writer names them
    parts = world.each(lambda: {path.name: sha256(path) for path in sorted(folder.glob(own))})
    return {name: digest for part in parts for name, digest in part.items()}


def verify_files(folder: Path, hashes: Mapping[str, str], world: World) -> None:
    """UserError or FileNotFoundError, in all processes, where the files are not those that were written.

    Each process reads a share of them.
    """
    world.each(partial(_verify, folder, hashes, sorted(hashes)[world.rank :: world.size]))


def read_tensors(folder: Path, into: Mapping[str, Tensor], world: World) -> None:
    """Reads the tensors that `into` names into its memory, however many processes wrote them.

    UserError, in all processes, if one is missing or has another shape.
    """
    from torch.distributed import DistError
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    try:
        reader = HuggingFaceStorageReader(str(folder))
        reader.fs = _without_hidden()
        with _first_failure():
            load(
                {name: tensor.detach() for name, tensor in into.items()},
                storage_reader=reader,
                process_group=world.control,
                no_dist=world.control is None,
            )
    except (OSError, MemoryError, OutOfMemoryError, DistError):  # not for what the files hold
        raise
    except Exception as error:  # half a dozen kinds for a file that is cut short or of another shape
        raise UserError(f"{folder} does not hold the tensors that are needed: {error}") from error


def quiet_in_single_process() -> None:
    """Silences the library's remark that it is not distributed: for one process that is as it should be.

    For the whole process, since filters are no thread's own.
    """
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def _file_numbers(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The file of each tensor, from 1; a process's part of a file is about `_FILE_SIZE` at most."""
    numbers, number, size = {}, 1, 0
    for name, tensor in tensors.items():
        more = local(tensor).nbytes
        if size and size + more > _FILE_SIZE:
            number, size = number + 1, 0
        numbers[name] = number
        size += more
    return numbers


def _verify(folder: Path, hashes: Mapping[str, str], names: Sequence[str]) -> None:
    for name in names:
        if sha256(folder / name) != hashes[name]:
            raise UserError(f"{folder / name} is not as it was written: truncated or altered")
    for path in folder.glob("*.safetensors"):
        if path.name not in hashes and not path.name.startswith("."):
            raise UserError(f"{path} is not part of what was written")


def _without_hidden() -> Any:
    """The library's file system, less what a system has left in the folder (`._*`, .nfs…): the library reads
    all that ends as a tensor file does.
    """
    from torch.distributed.checkpoint.filesystem import FileSystem

    class Visible(FileSystem):
        def ls(self, path: Any) -> list[str]:
            return [file for file in super().ls(path) if not Path(file).name.startswith(".")]

    return Visible()


@contextmanager
def _first_failure() -> Iterator[None]:
    """The library collects the errors of all processes in one that is no `Exception`: the first is raised."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error
