"""Read WebDataset archives, in which consecutive files with the same key form one example."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, final

from trimask.media.rejection import Reason, Rejected, Rejection
from trimask.sources.columns import ColumnError, Columns, find_columns
from trimask.sources.item import Item, Reader, column_names, item_of_row, printable
from trimask.sources.options import PrepareOptions
from trimask.sources.tape import members

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # key, and everything after the first dot of the name
_KEY = "__key__"
_HEAD_SAMPLES = 16
_MOST_KINDS = 64  # sets of member names whose columns are cached
_MOST_FIELDS = 64  # members of one key
_LARGEST_SAMPLE = 4  # as a multiple of `max_bytes`


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Archive(Reader):
    """A tar file, read as a stream.

    The reader of `datasets` is not used: it fails for the whole archive if one example lacks a field or has
    damaged JSON.
    """

    root: Path
    name: str

    @property
    def label(self) -> str:
        return printable(self.name)

    def check(self, options: PrepareOptions) -> None:
        error: ColumnError | None = None
        for sample in islice(self._samples(options.limits.max_bytes), _HEAD_SAMPLES):
            if isinstance(sample, Rejection):
                continue
            try:
                find_columns(_columns_of(sample), options, where=self.label)
                return
            except ColumnError as found:
                error = error or found
        if error is not None:
            raise error

    def items(self, options: PrepareOptions) -> Iterator[Item | Rejection]:
        wanted, known = self._expected_modalities(options), {}
        for sample in self._samples(options.limits.max_bytes):
            if isinstance(sample, Rejection):
                yield sample
                continue
            key = f"{self.label}:{sample[_KEY]}"
            try:
                item = self._item(sample, options, key, known)
                missing = ", ".join(m for m in sorted(wanted - item.modalities))
                if missing:
                    raise Rejected(Reason.EMPTY, f"no {missing}, which other examples of the archive have")
                yield item
            except Rejected as error:
                yield Rejection(key=key, reason=error.reason, detail=error.detail)

    def _expected_modalities(self, options: PrepareOptions) -> frozenset[str]:
        """Return the modalities that any of the first examples has.

        An example that lacks one is rejected: a caption without its picture must not become a document.
        """
        found: set[str] = set()
        with contextlib.suppress(Exception):  # any error occurs again when the items are read
            for sample in islice(self._samples(options.limits.max_bytes), _HEAD_SAMPLES):
                with contextlib.suppress(Rejected):
                    if not isinstance(sample, Rejection):
                        found |= self._item(sample, options, self.label, {}).modalities
        return frozenset(found)

    def _item(
        self,
        sample: Mapping[str, Any],
        options: PrepareOptions,
        key: str,
        known: dict[tuple[str, ...], Columns],
    ) -> Item:
        """Convert a sample to an item; `known` caches columns by the names of the members."""
        names = tuple(_columns_of(sample))
        columns = known.get(names)
        if columns is None:
            try:
                columns = find_columns(names, options, where=key)
            except ColumnError as error:
                raise Rejected(Reason.COLUMNS, str(error)) from error
            if len(known) < _MOST_KINDS:
                known[names] = columns
        item = item_of_row(sample, columns, key=key, root=self.root, folder=self.root)
        return replace(item, places=(*item.places, sample[_KEY]))

    def _samples(self, limit: int) -> Iterator[dict[str, Any] | Rejection]:
        """Yield the members of each key. A key with two members of one name is rejected."""
        sample: dict[str, Any] = {}
        size = 0
        doubled: dict[str, None] = {}

        def finish_sample() -> Iterator[dict[str, Any] | Rejection]:
            place = f"{self.label}:{sample.get(_KEY)}"
            if doubled:
                detail = f"two or more members are called .{', .'.join(doubled)}"
                yield Rejection(key=place, reason=Reason.MALFORMED_ROW, detail=detail)
            elif size > _LARGEST_SAMPLE * limit:
                yield Rejection(key=place, reason=Reason.OVERSIZED, detail=f"members of {size} bytes in all")
            elif sample:
                yield sample

        for member, read in members(self.root / self.name):
            match = _NAME.match(member.name)
            if not match:
                continue
            key, field = printable(match[1]), match[2].lower()
            if sample and sample[_KEY] != key:
                yield from finish_sample()
                sample, size, doubled = {}, 0, {}
            sample[_KEY] = key
            place = f"{self.label}:{printable(member.name)}"
            if member.size > limit:
                detail = f"{member.size} bytes by the archive's header, the limit is {limit}"
                yield Rejection(key=place, reason=Reason.OVERSIZED, detail=detail)
                continue
            size += member.size
            if field in sample or len(sample) > _MOST_FIELDS:
                doubled[field if len(doubled) < _MOST_FIELDS else "…"] = None
                continue
            if size > _LARGEST_SAMPLE * limit:
                continue
            data = read()
            if field != "json":
                sample[field] = data
                continue
            try:
                sample[field] = json.loads(data)
            except (ValueError, RecursionError) as error:
                yield Rejection(key=place, reason=Reason.MALFORMED_ROW, detail=f"not JSON: {error}")
        yield from finish_sample()


def _columns_of(sample: Mapping[str, Any]) -> list[str]:
    return [name for name in column_names(sample) if name != _KEY]
