"""Read parquet files and data sets on the hub, without decoding media."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, final

from trimask.media.rejection import Reason, Rejected, Rejection
from trimask.sources.columns import Columns, find_columns
from trimask.sources.confined import run_confined
from trimask.sources.hub import HubData, hub_rows, hub_schema
from trimask.sources.item import Item, Reader, item_of_row, printable
from trimask.sources.options import PrepareOptions
from trimask.tables.parquet import rows_of, schema_of


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ParquetFile(Reader):
    """A parquet file with pictures and recordings as bytes, as `datasets` stores them, or as file names."""

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
        (schema,) = run_confined(schema_of, path)
        columns, names = self._columns(options)
        limit = 2 * options.limits.max_bytes  # a row may have both a picture and a recording
        rows = chain.from_iterable(run_confined(rows_of, path, _needed(columns, names), limit))
        classes = _class_names(datasets.Features.from_arrow_schema(schema), columns)
        yield from _items(rows, columns, classes, self.label, self.root, path.parent)

    def named_files(self, options: PrepareOptions) -> Iterator[str]:
        """Yield the names of pictures and recordings, if a column has names rather than bytes."""
        import pyarrow as pa

        columns, _ = self._columns(options)
        path = self.root / self.name
        (schema,) = run_confined(schema_of, path)
        types = {field.name: field.type for field in schema}
        for name in filter(None, (columns.image, columns.audio)):
            kind = types.get(name)
            if kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                rows = chain.from_iterable(run_confined(rows_of, path, [name], options.limits.max_bytes))
                yield from (row[name] for row in rows if isinstance(row, dict) and row[name])

    def _columns(self, options: PrepareOptions) -> tuple[Columns, list[str]]:
        """Return the columns to read, and the names of all columns."""
        (schema,) = run_confined(schema_of, self.root / self.name)
        return find_columns(_names(schema), options, where=self.label), schema.names


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class HubShard(Reader):
    """One shard of one split of a data set on the hub."""

    data: HubData
    split: str
    index: int
    num_shards: int

    @property
    def label(self) -> str:
        return f"{self.data.dataset}/{self.split}/{self.index}"

    def check(self, options: PrepareOptions) -> None:
        self._columns(self._schema(), options)

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        import datasets

        schema = self._schema()
        columns = self._columns(schema, options)
        limit = 2 * options.limits.max_bytes
        shard = (self.index, self.num_shards)
        found = run_confined(hub_rows, self.data, self.split, shard, _needed(columns, schema.names), limit)
        classes = _class_names(datasets.Features.from_arrow_schema(schema), columns)
        folder = Path(self.data.dataset)
        yield from _items(chain.from_iterable(found), columns, classes, self.label, folder, folder)

    def _schema(self) -> Any:
        (schema,) = run_confined(hub_schema, self.data, self.split)
        return schema

    def _columns(self, schema: Any, options: PrepareOptions) -> Columns:
        return find_columns(_names(schema), options, where=self.data.dataset)


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
    """Return the class names if the text column holds class numbers, else nothing."""
    return getattr(features.get(columns.text or ""), "names", None) or ()


def _names(schema: Any) -> list[str]:
    """Return the column names of an arrow schema, with fields of structs as `struct.field`."""
    import pyarrow as pa

    names = []
    for field in schema:
        names.append(field.name)
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") < 0:
            names += [f"{field.name}.{inner.name}" for inner in field.type.fields]
    return names


def _needed(columns: Columns, all_names: list[str]) -> list[str]:
    """Return the top-level columns to read; for a field of a struct, the struct."""
    stated = (columns.text, columns.image, columns.audio, columns.speaker, columns.group, columns.split)
    names = [name for name in (*stated, columns.rate, columns.language) if name is not None]
    return sorted({name if name in all_names else name.partition(".")[0] for name in names})
