"""Read and write the three parquet files of the quickstart data, and define their schemas."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trimask import seals
from trimask.errors import UserError

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "data"
VERSION = "1"
RESTORE = "restore it from the repository, or rebuild it with `python -m trimask.datasets.quickstart.build`"
READ_ALOUD = "name a folder that `python -m trimask.datasets.quickstart.readings --out DIR` wrote"

SCHEMAS = {
    "images": pa.schema(
        [
            ("hexcode", pa.string()),
            ("base", pa.string()),
            ("caption", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("group", pa.string()),
            ("image", pa.binary()),
            ("split", pa.string()),
        ]
    ),
    "speech": pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("kind", pa.string()),
            ("base", pa.string()),
            ("hexcode", pa.string()),
            ("voice", pa.string()),
            ("audio", pa.binary()),
            ("sample_rate", pa.int32()),
            ("num_samples", pa.int32()),
            ("split", pa.string()),
        ]
    ),
    "text": pa.schema(
        [
            ("id", pa.string()),
            ("year", pa.int32()),
            ("president", pa.string()),
            ("text", pa.string()),
            ("split", pa.string()),
        ]
    ),
}
ROW_GROUP_SIZE = {"images": 512, "speech": 512, "text": 64}
REPETITIVE_COLUMNS = ("base", "group", "kind", "voice", "split", "president")
ENCODED_COLUMNS = ("image", "audio")  # already compressed


def write_table(folder: Path, name: str, rows: list[dict[str, Any]], metadata: dict[str, str]) -> Path:
    """Write `folder/name.parquet` atomically; its schema contains `metadata` and the version."""
    stamped = {
        "trimask.table": name,
        "trimask.version": VERSION,
        **{f"trimask.{key}": value for key, value in metadata.items()},
    }
    table = pa.Table.from_pylist(rows, schema=SCHEMAS[name].with_metadata(stamped))
    path = folder / f"{name}.parquet"
    temporary = path.with_suffix(".parquet.tmp")
    codecs = {column: "none" if column in ENCODED_COLUMNS else "zstd" for column in _leaf_columns(name)}
    options: dict[str, Any] = {  # documented forms that pyarrow's annotations lack
        "compression": codecs,
        "compression_level": {column: 19 for column, codec in codecs.items() if codec == "zstd"},
        "use_dictionary": [column for column in REPETITIVE_COLUMNS if column in table.column_names],
    }
    try:
        pq.write_table(
            table, temporary, row_group_size=ROW_GROUP_SIZE[name], write_statistics=False, **options
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _leaf_columns(name: str) -> list[str]:
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in SCHEMAS[name]
    ]


def read_table(name: str, split: str | None = None, *, folder: Path = ASSETS) -> list[dict[str, Any]]:
    """Read the rows of a table as dictionaries, in file order, of one split or all.

    Raises:
        UserError: the file is missing, damaged, of another kind or of another version.
    """
    path = folder / f"{name}.parquet"
    remedy = READ_ALOUD if name == "speech" and folder != ASSETS else RESTORE
    if not path.is_file():
        raise UserError(f"no quickstart data at {path}: {remedy}")
    try:
        seals.check_indexed(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {remedy}") from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged or no parquet file ({str(error).splitlines()[0]}): {remedy}"
        ) from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if metadata.get("trimask.table") != name or not table.schema.equals(SCHEMAS[name]):
        raise UserError(f"{path} is not trimask's table of {name}: {remedy}")
    if metadata["trimask.version"] != VERSION:
        raise UserError(
            f"{path} has version {metadata['trimask.version']}, this trimask reads {VERSION}: {remedy}"
        )
    if split is not None:
        table = table.filter(pa.array([found == split for found in table["split"].to_pylist()]))
    return table.to_pylist()
