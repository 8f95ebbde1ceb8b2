"""Readers of parquet files, and of data sets on the hub through `datasets`; nothing is decoded."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, final

from trimask.data.prepare.columns import Columns, find_columns
from trimask.data.prepare.confined import confined
from trimask.data.prepare.item import Item, Reader, SourceUnavailable, item_of_row, printable
from trimask.data.prepare.options import PrepareOptions
from trimask.data.prepare.parquet import rows_of, schema_of
from trimask.data.prepare.rejection import Reason, Rejected, Rejection, first_line

_SECONDS = 5.0  # until the hub must have answered


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ParquetFile(Reader):
    """A parquet file; pictures and recordings as bytes, as `datasets` stores them, or as names of files."""

    root: Path
    name: str

    @property
    def label(self) -> str:
        return printable(self.name)

    def check(self, options: PrepareOptions) -> None:
        self._columns(options)

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        import datasets

        path = self.root / self.name
        (schema,) = confined(schema_of, path)
        columns, names = self._columns(options)
        limit = 2 * options.limits.max_bytes  # a picture and a recording, say
        rows = chain.from_iterable(confined(rows_of, path, _needed(columns, names), limit))
        classes = _class_names(datasets.Features.from_arrow_schema(schema), columns)
        yield from _items(rows, columns, classes, self.label, self.root, path.parent)

    def named_files(self, options: PrepareOptions) -> Iterator[str]:
        """The pictures and recordings that its rows name, where a column is of names."""
        import pyarrow as pa

        columns, _ = self._columns(options)
        path = self.root / self.name
        (schema,) = confined(schema_of, path)
        types = {field.name: field.type for field in schema}
        for name in filter(None, (columns.image, columns.audio)):
            kind = types.get(name)
            if kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                rows = chain.from_iterable(confined(rows_of, path, [name], options.limits.max_bytes))
                yield from (row[name] for row in rows if isinstance(row, dict) and row[name])

    def _columns(self, options: PrepareOptions) -> tuple[Columns, list[str]]:
        """The columns that are read, and the names of all."""
        (schema,) = confined(schema_of, self.root / self.name)
        return find_columns(_names(schema), options, where=self.label), schema.names


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class HubShard(Reader):
    """One shard of one split of a data set that `datasets.load_dataset` finds, at a fixed revision."""

    dataset: str
    configuration: str | None
    revision: str | None
    split: str
    index: int
    num_shards: int

    @property
    def label(self) -> str:
        return f"{self.dataset}/{self.split}/{self.index}"

    def check(self, options: PrepareOptions) -> None:
        self._columns(self._load(), options)

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        stored = self._load()
        columns = self._columns(stored, options)
        chosen = stored.select_columns(_needed(columns, stored.column_names or []))
        rows = map(_with_bytes, chosen.shard(self.num_shards, self.index).decode(False))
        folder = Path(self.dataset)
        try:
            classes = _class_names(stored.features or {}, columns)
            yield from _items(rows, columns, classes, self.label, folder, folder)
        except ValueError:  # a damaged file, as its format's library says
            raise
        except Exception as error:  # the connection's faults: each layer has its own
            raise SourceUnavailable(f"{self.label}: {first_line(error)}: try again later") from error

    def _load(self) -> Any:
        return load_splits(self.dataset, self.configuration, self.revision)[self.split]

    def _columns(self, stored: Any, options: PrepareOptions) -> Columns:
        if stored.features is None:
            return find_columns(list(next(iter(stored.take(1)), {})), options, where=self.dataset)
        return find_columns(_names(stored.features.arrow_schema), options, where=self.dataset)


@functools.lru_cache(maxsize=4)
def load_splits(dataset: str, configuration: str | None, revision: str | None) -> Any:
    """The splits of a data set, by name, as streams.

    Raises:
        SourceUnavailable: the hub cannot be reached.
        ValueError: it has no data set of this name, or it needs to be told which configuration.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    _quiet()
    try:
        _look_up(dataset, revision)
        return datasets.load_dataset(dataset, configuration, revision=revision, streaming=True)
    except (DatasetNotFoundError, FileNotFoundError) as error:
        message = f"{dataset} is no file or folder here, and no data set on the hub"
        raise ValueError(f"{message} ({first_line(error)})") from error
    except OSError as error:
        raise _unreachable(dataset, error) from error


def current_revision(dataset: str, revision: str | None) -> str | None:
    """The commit that `revision` (by default the newest) names on the hub; None for a local data set."""
    if Path(dataset).exists():
        return None
    from huggingface_hub import HfApi

    return HfApi().dataset_info(dataset, revision=revision).sha


def _look_up(dataset: str, revision: str | None) -> None:
    """Ask the hub once whether it has the data set: the library asks again and again, for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if Path(dataset).exists() or constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(dataset, revision=revision, timeout=_SECONDS)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(first_line(error)) from error
    except Exception as error:  # the connection's faults: each layer has its own
        raise _unreachable(dataset, error) from error


def _unreachable(dataset: str, error: Exception) -> SourceUnavailable:
    return SourceUnavailable(
        f"{dataset} is no file or folder here, and the hub cannot be reached ({first_line(error)}): "
        "check the name, or the connection"
    )


def _items(
    stored: Any, columns: Columns, classes: Sequence[str], label: str, root: Path, folder: Path
) -> Iterator[Item | Rejection]:
    for number, values in enumerate(stored):
        key = f"{label}:{number}"
        try:
            if isinstance(values, int):
                raise Rejected(Reason.OVERSIZED, f"a row of {values} bytes")
            item = item_of_row(values, columns, key=key, root=root, folder=folder)
            if classes and isinstance(item.text, int):
                item = replace(item, text=classes[item.text] if 0 <= item.text < len(classes) else None)
            yield item
        except Rejected as error:
            yield Rejection(key=key, reason=error.reason, detail=error.detail)


def _class_names(features: Mapping[str, Any], columns: Columns) -> Sequence[str]:
    """What the numbers in the column of texts stand for, if it is one of classes."""
    return getattr(features.get(columns.text or ""), "names", None) or ()


def _names(schema: Any) -> list[str]:
    """The columns of an arrow schema, with the fields of objects as `object.field`."""
    import pyarrow as pa

    names = []
    for field in schema:
        names.append(field.name)
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") < 0:
            names += [f"{field.name}.{inner.name}" for inner in field.type.fields]
    return names


def _with_bytes(values: dict[str, Any]) -> dict[str, Any]:
    """Files that stand by themselves on the hub are fetched: the row has only their address there."""
    from datasets.utils.file_utils import xopen

    for name, value in values.items():
        path = value.get("path") if isinstance(value, dict) and value.get("bytes", 0) is None else None
        if isinstance(path, str) and "hf://" in path:
            with xopen(path, "rb") as file:
                values[name] = {"bytes": file.read(), "path": path}
    return values


def _needed(columns: Columns, all_names: list[str]) -> list[str]:
    """The columns to read, of which `all_names` are there: for a field of an object, the object."""
    stated = (columns.text, columns.image, columns.audio, columns.speaker, columns.group, columns.split)
    names = [name for name in (*stated, columns.rate, columns.language) if name is not None]
    return sorted({name if name in all_names else name.partition(".")[0] for name in names})


def _quiet() -> None:
    """What is wrong with a file stands in rejected.jsonl; the library's lines and bars would hide ours."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
