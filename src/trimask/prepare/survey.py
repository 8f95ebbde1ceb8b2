"""Survey a source: hash the content of each example that must not occur in two splits, without decoding."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq

from trimask import io, parallel
from trimask.errors import UserError
from trimask.media.rejection import Rejected, Rejection
from trimask.prepare.decision import STATED
from trimask.prepare.decode import read_part
from trimask.prepare.identity import file_node, name_node, text_node
from trimask.prepare.passages import clean_text
from trimask.prepare.tally import Tally
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Part
from trimask.sources.stated import stated_split

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        # Examples with equal subjects share a split: the text, or the value of the --group-by column.
        ("subject", pa.uint64()),
        ("image", pa.uint64()),
        ("audio", pa.uint64()),
        ("text", pa.uint64()),
        ("stated", pa.uint8()),
        ("note", pa.uint8()),
    ]
)
_ROWS = 65_536  # written at once


def survey_path(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:06d}.items.parquet"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Survey(parallel.Work[Part, int]):
    """Writes one row for each item of a part, in order; returns the part's number."""

    options: PrepareOptions
    out: Path

    def __call__(self, part: Part) -> int:
        with (
            Tally(self.out, part.number) as tally,
            io.atomic_write(survey_path(self.out, part.number)) as temporary,
            pq.ParquetWriter(temporary, _SCHEMA, write_page_checksum=True) as writer,
        ):
            for rows in _batches(_rows(part, self.options, tally)):
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        return part.number


def num_surveyed(out: Path, number: int) -> int:
    """Return the number of items in a part's survey; 0 if its file is missing or damaged.

    Damage is reported when the file is read.
    """
    try:
        return pq.read_metadata(survey_path(out, number)).num_rows
    except (pa.ArrowException, OSError):
        return 0


def read_survey(out: Path, number: int, columns: list[str]) -> pa.Table:
    """Read columns of a part's survey.

    Raises:
        UserError: the file is damaged.
    """
    path = survey_path(out, number)
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete it and run the same command again") from error


def _rows(part: Part, options: PrepareOptions, tally: Tally) -> Iterator[dict[str, Any]]:
    for item in read_part(part, options):
        if not isinstance(item, Rejection):
            yield {"key": item.key, **_row(item, part, options)}
            tally.add()


def _row(item: Item, part: Part, options: PrepareOptions) -> dict[str, int]:
    blank: dict[str, int] = {name: 0 for name in _SCHEMA.names if name != "key"}
    try:
        stated, note = stated_split(item.split, part.split, item.places)
    except Rejected:  # the decoder will set it aside
        return blank
    try:
        text = text_node(clean_text(item.text))
    except Rejected:
        if options.needs_text:
            return blank
        text = 0
    limit = options.limits.max_bytes
    image, audio = file_node(item.image, limit), file_node(item.speech, limit)
    if item.group is not None:
        subject = name_node(str(item.group))
    else:
        subject = 0 if item.is_group_of_file and (image or audio) else text
    found = {"subject": subject, "image": image, "audio": audio, "text": text}
    return {**found, "stated": STATED.index(stated), "note": int(note)}


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    held: list[dict[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == _ROWS:
            yield held
            held = []
    yield held
