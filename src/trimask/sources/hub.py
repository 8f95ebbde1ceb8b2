"""Read data sets on the Hugging Face hub, a few rows at a time, through `datasets`.

The functions that read data run in a process with limited memory (`run_confined`), since shards and single
values can be larger than memory.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from trimask.errors import UserError
from trimask.media.rejection import first_line
from trimask.sources.item import SourceUnavailable
from trimask.tables.parquet import BATCH_ROWS, rows_of, schema_of, split_batch

Found = TypeVar("Found")

_SECONDS = 5.0  # timeout of the first request


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class HubData:
    """A data set that `datasets.load_dataset` can load, at a revision."""

    dataset: str
    configuration: str | None
    revision: str | None


def shards_of(data: HubData) -> Iterator[dict[str, int]]:
    """Yield one dictionary: the number of shards of each split.

    Raises:
        SourceUnavailable: the hub cannot be reached.
        UserError: it has no data set of this name, or the data set needs a configuration.
    """
    files = _parquet_files(data)
    if files is not None:
        yield {split: len(names) for split, names in files.items()}
    else:
        yield {str(split): stored.num_shards for split, stored in _streams(data).items()}


def hub_schema(data: HubData, split: str) -> Iterator[Any]:
    """Yield the arrow schema of a split: the declared one, or else that of its first file or row."""
    import pyarrow as pa

    files, stated = _parquet_files(data), _builder(data).info.features
    if stated is None and files is not None:
        yield from _convert_errors(schema_of(files[split][0]), data)
        return
    stated = stated if files is not None else _streams(data)[split].features
    if stated is not None:
        yield stated.arrow_schema
    else:
        first = next(_streams(data)[split].with_format("arrow").iter(batch_size=1), None)
        yield pa.schema([]) if first is None else first.schema


def hub_rows(
    data: HubData, split: str, shard: tuple[int, int], columns: list[str], limit: int
) -> Iterator[list[dict[str, Any] | int]]:
    """Yield the rows of a shard in order, in lists. A row of more than `limit` bytes is replaced by its size.

    Args:
        shard: its index and the number of shards.

    Raises:
        UserError, MemoryError: the shard is damaged or too large.
        SourceUnavailable: the connection is lost.
    """
    files = _parquet_files(data)
    if files is not None:
        found = rows_of(files[split][shard[0]], columns, limit)
    else:
        found = _rows_of_stream(
            _streams(data)[split].select_columns(columns).shard(shard[1], shard[0]), limit
        )
    for rows in _convert_errors(found, data):
        yield [_with_bytes(row, limit) for row in rows]


def _rows_of_stream(stored: Any, limit: int) -> Iterator[list[dict[str, Any] | int]]:
    num_read = 0
    for batch_rows in (BATCH_ROWS, 1):
        start = 0
        try:
            for batch in stored.with_format("arrow").iter(batch_size=batch_rows):
                start += len(batch)
                for rows, _ in split_batch(batch.slice(max(0, len(batch) - start + num_read)), limit):
                    yield rows
                    num_read += len(rows)
            return
        except MemoryError:
            if batch_rows == 1:
                raise


def _convert_errors(found: Iterator[Found], data: HubData) -> Iterator[Found]:
    """Yield from `found`, raising UserError for damaged data and SourceUnavailable for connection errors."""
    try:
        yield from found
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        if type(error) is OSError and error.errno is None:  # how arrow reports damage
            raise UserError(first_line(error)) from error
        # Each layer of the connection raises its own types.
        raise SourceUnavailable(f"{data.dataset}: {first_line(error)}: try again later") from error


@functools.lru_cache(maxsize=4)
def _builder(data: HubData) -> Any:
    """Return the library's builder for the data set. Raise as `shards_of` does."""
    from datasets.exceptions import DatasetNotFoundError

    import datasets

    _quiet()
    try:
        _look_up(data)
        return datasets.load_dataset_builder(data.dataset, data.configuration, revision=data.revision)
    except (DatasetNotFoundError, FileNotFoundError) as error:
        message = f"{data.dataset} is neither a local file or folder nor a data set on the hub"
        raise UserError(f"{message} ({first_line(error)})") from error
    except OSError as error:
        raise _unreachable(data, error) from error


def _parquet_files(data: HubData) -> dict[str, list[str]] | None:
    """Return the files of each split if they are parquet, else None.

    They are read without the library, which would load a whole row group, perhaps a whole file, at a time.
    """
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    config = _builder(data).config
    if not isinstance(config, ParquetConfig) or not config.data_files:
        return None
    return {str(split): [str(file) for file in files] for split, files in config.data_files.items()}


@functools.lru_cache(maxsize=4)
def _streams(data: HubData) -> Any:
    """Return the splits of a data set as streams, by name."""
    try:
        return _builder(data).as_streaming_dataset()
    except FileNotFoundError as error:
        raise UserError(f"{data.dataset}: {first_line(error)}") from error
    except OSError as error:
        raise _unreachable(data, error) from error


def current_revision(data: HubData) -> str | None:
    """Return the commit of the revision (by default the latest) on the hub; None for a local data set."""
    if Path(data.dataset).exists():
        return None
    from huggingface_hub import HfApi

    return HfApi().dataset_info(data.dataset, revision=data.revision).sha


def _look_up(data: HubData) -> None:
    """Ask the hub once whether it has the data set; the library itself would retry for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if Path(data.dataset).exists() or constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(data.dataset, revision=data.revision, timeout=_SECONDS)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(first_line(error)) from error
    except Exception as error:  # each layer of the connection raises its own types
        raise _unreachable(data, error) from error


def _unreachable(data: HubData, error: Exception) -> SourceUnavailable:
    return SourceUnavailable(
        f"{data.dataset} is no local file or folder, and the hub cannot be reached ({first_line(error)}): "
        "check the name or the connection"
    )


def _with_bytes(values: Mapping[str, Any] | int, limit: int) -> dict[str, Any] | int:
    """Fetch the files for which a row has only a hub address. Return the size read if it exceeds `limit`."""
    from datasets.utils.file_utils import xopen

    if isinstance(values, int):
        return values
    found = dict(values)
    for name, value in values.items():
        path = value.get("path") if isinstance(value, dict) and value.get("bytes", 0) is None else None
        if isinstance(path, str) and "hf://" in path:
            with xopen(path, "rb") as file:
                data = file.read(limit + 1)
            if len(data) > limit:
                return len(data)
            found[name] = {"bytes": data, "path": path}
    return found


def _quiet() -> None:
    """Silence the library's messages and progress bars; rejected.jsonl reports what is wrong with a file."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
