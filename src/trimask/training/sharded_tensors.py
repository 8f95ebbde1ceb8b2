"""Store tensors of one or many processes as a folder of safetensors files; each writes and reads its part."""

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

# The library builds a whole file in memory before writing it.
_FILE_SIZE = 2**30  # bytes


def local(tensor: Tensor) -> Tensor:
    """Return this rank's shard of `tensor`, or a plain tensor itself. Shares memory."""
    # Duck-typed: importing DTensor takes half a second.
    to_local = getattr(tensor, "to_local", None)
    return (tensor if to_local is None else to_local()).detach()


@final
class HostCopies:
    """Copies tensors to the host, reusing the same memory each time."""

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies that share no memory with `tensors` or each other (tied weights); sharded alike."""
        self._copies = {name: self._copy(name, tensor) for name, tensor in tensors.items()}
        return dict(self._copies)

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        old = self._copies.get(name)
        if old is None or old.shape != tensor.shape or old.dtype != tensor.dtype:
            return tensor.detach().to("cpu", copy=True).contiguous()
        local(old).copy_(local(tensor))
        return old


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], world: World) -> dict[str, str]:
    """Write `tensors` (on the host, with the same names in all processes) into `folder`, flushed to disk.

    Return the SHA-256 of each file of all processes. Raise an OSError of any process in all.
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
    """Raise UserError or FileNotFoundError in all processes unless the files match their hashes.

    Each process reads a share of them.
    """
    world.each(partial(_verify, folder, hashes, sorted(hashes)[world.rank :: world.size]))


def read_tensors(folder: Path, into: Mapping[str, Tensor], world: World) -> None:
    """Read the tensors named in `into` into its memory, however many processes wrote them.

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
    except (OSError, MemoryError, OutOfMemoryError, DistError):  # not for the content of the files
        raise
    except Exception as error:  # half a dozen types for a truncated file or another shape
        raise UserError(f"{folder} does not hold the required tensors: {error}") from error


def quiet_in_single_process() -> None:
    """Silence the library's warning that it is not distributed, as intended for one process.

    Process-wide, since warning filters are not per thread.
    """
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def _file_numbers(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Assign each tensor to a file, from 1; a process's part of a file is at most about `_FILE_SIZE`."""
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
    """Return the library's file system without hidden files (`._*`, .nfs…), since the library reads every
    file with a tensor suffix.
    """
    from torch.distributed.checkpoint.filesystem import FileSystem

    class Visible(FileSystem):
        def ls(self, path: Any) -> list[str]:
            return [file for file in super().ls(path) if not Path(file).name.startswith(".")]

    return Visible()


@contextmanager
def _first_failure() -> Iterator[None]:
    """Raise the first error of those that the library collects from all processes in a non-`Exception`."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error
