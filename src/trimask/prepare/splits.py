"""Decide the split of every example of a source before any is decoded.

Splits that the source names are kept: an example of another split that shares a text or a file with a
held-out one is set aside. The remaining examples are grouped so that no two groups share a text or a file,
and groups are assigned to splits at random.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64
from numpy import ndarray

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.errors import UserError
from trimask.parallel import Engine, Local
from trimask.prepare.decision import CAUSES, HELD, REPEATED, STATED, Decision
from trimask.prepare.groups import Groups, Marks, find_repeated_rows, mix_bits
from trimask.prepare.survey import Survey, num_surveyed, read_survey, survey_path
from trimask.prepare.tally import Counts, ProgressTracker
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Plan
from trimask.sources.stated import Note

SUMMARY = "splits.json"
_TRAIN, _COMPOSITION = STATED.index("train"), STATED.index("composition")
_NODES = ("subject", "image", "audio")
_NUM_EXAMPLES = 3
OnCounts = Callable[[Counts], None]
_MESSAGES = {
    "contradiction": "held out, since their table and their folder name different splits",
    "held_out": "set aside, since their text or file is also in a split that the source holds out",
    "overruled": "trained on by their split column, although the name of a file or folder holds them out",
    "repeated": "set aside as duplicates of an earlier file",
}
_NOTES = {Note.CONTRADICTION: "contradiction", Note.OVERRULED: "overruled"}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """A summary of the split decisions, for the manifest.

    Attributes:
        own: splits that the source names itself; they are kept, and no examples are drawn for them.
        counts: number of examples that were set aside, or whose split the source states twice:
            `held_out` (set aside: their text or file is also in a split that the source holds out),
            `repeated` (set aside: the same file with the same text again, or just the same file if no text
            is needed), `contradiction` (held out: a table of one split names a file in the folder of
            another), `overruled` (trained on: the split column overrides the name of a file or folder).
        examples: keys of the first examples of each count.
        largest_group: number of examples in the largest group that is assigned at random.
    """

    own: tuple[str, ...] = ()
    counts: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    largest_group: int = 0

    def describe(self) -> str | None:
        """Summarize `counts` in one line for users; None if there are none."""
        counted = [f"{count:,} {_MESSAGES[name]}" for name, count in self.counts.items()]
        return f"splits: {'; '.join(counted)}" if counted else None


def decide(
    plan: Plan,
    options: PrepareOptions,
    out: Path,
    *,
    engine: Engine | None = None,
    on_survey: OnCounts = lambda counts: None,
) -> Decisions:
    """Decide the split of every item of `plan` and write the decisions under `out`.

    Decisions of an earlier call are reused if their files are intact.

    Args:
        on_survey: called about once a second, and at the end, with the progress of the survey.
    """
    if (before := _load_decisions(plan, out)) is not None:
        return before
    missing = [part for part in plan.parts if not survey_path(out, part.number).exists()]
    survey = Survey(options=options, out=out.resolve())
    num_done = len(plan.parts) - len(missing)
    before = sum(num_surveyed(out, part.number) for part in plan.parts)
    expected = [part.reader.num_expected for part in missing]
    known = [number for number in expected if number is not None]
    total = before + sum(known) if len(known) == len(expected) else None
    tracker = ProgressTracker(
        out, num_parts=len(plan.parts), num_done=num_done, items=before, num_items=total
    )
    with tracker.report_periodically(on_survey) as show:
        for number in (engine or Local(workers=1)).run(survey, missing):
            tracker.finish(num_surveyed(out, number))
            show()
        decisions = _Source(plan, options, out).decide()
    stored = {"decisions": to_dict(decisions), "files": _hashes(plan, out)}
    io.write_json(out / SUMMARY, {**stored, "sha256": _hash(stored)})
    return decisions


def _load_decisions(plan: Plan, out: Path) -> Decisions | None:
    """Return the stored summary if it and the files of all parts are intact, else None."""
    try:
        stored = io.read_json(out / SUMMARY)
        if stored.pop("sha256") == _hash(stored) and stored["files"] == _hashes(plan, out):
            return from_dict(Decisions, stored["decisions"])
    except (FileNotFoundError, ValueError, KeyError, AttributeError):
        pass
    return None


def _hashes(plan: Plan, out: Path) -> dict[str, str]:
    return {path.name: io.sha256(path) for path in (_path(out, part.number) for part in plan.parts)}


def _hash(stored: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def read_decisions(out: Path, number: int) -> Iterator[Decision]:
    """Yield the decision for each item of a part, in order.

    Raises:
        UserError: the file is damaged, or more decisions are requested than the survey found items.
    """
    path = _path(out, number)
    try:
        codes = pq.read_table(path, page_checksum_verification=True)["decision"].to_numpy()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path} is damaged: run the same command again to rebuild it") from error
    for code in codes:
        yield Decision.unpack(int(code))
    raise UserError("the source changed while it was being read: prepare it again into a new folder")


def _path(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:06d}.splits.parquet"


@final
class _Source:
    """The surveyed rows of a source, read part by part. Rows with files and held-out rows stay in memory."""

    def __init__(self, plan: Plan, options: PrepareOptions, out: Path) -> None:
        self._parts = [part.number for part in plan.parts]
        self._options = options
        self._out = out
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        linked: list[dict[str, ndarray]] = []
        stated: set[int] = set()
        for number in self._parts:
            rows = self._rows(number)
            stated |= set(np.unique(rows["stated"]).tolist())
            linked.append({name: rows[name][_is_linked(rows)] for name in (*_NODES, "text", "stated")})
        self._own = plan.own_splits | {split for code in stated if (split := STATED[code]) is not None}
        rows = {name: np.concatenate([part.pop(name) for part in linked]) for name in list(linked[0])}
        self._marks = self._held_out(rows)
        is_held, _ = self._holding(rows)
        self._repeated = ~is_held & find_repeated_rows(np.where(is_held, 0, self._identity(rows)))
        is_drawn = ~is_held & ~self._repeated & (rows["stated"] <= _TRAIN)
        drawn = {name: rows[name][is_drawn] for name in _NODES}
        self._groups = Groups.of(drawn["subject"], [drawn["image"], drawn["audio"]])

    def decide(self) -> Decisions:
        """Write the decision for each row and return the summary."""
        num_linked = 0
        for number in self._parts:
            rows = self._rows(number)
            is_held, holding = self._holding(rows)
            split = np.where(rows["stated"] <= _TRAIN, self._drawn(rows), rows["stated"])
            linked = np.flatnonzero(_is_linked(rows))
            is_again = np.zeros(len(split), dtype=bool)
            is_again[linked] = self._repeated[num_linked : num_linked + len(linked)]
            num_linked += len(linked)
            codes = np.where(is_held, holding | HELD << 3, split | np.where(is_again, REPEATED << 3, 0))
            table = pa.table({"decision": pa.array(codes, pa.uint8())})
            with io.atomic_write(_path(self._out, number)) as temporary:
                pq.write_table(table, temporary, write_page_checksum=True)
            counted = {"held_out": is_held, "repeated": is_again}
            counted |= {name: rows["note"] == note.value for note, name in _NOTES.items()}
            for name, which in counted.items():
                self._count_rows(name, number, np.flatnonzero(which))
        return Decisions(
            own=tuple(sorted(self._own)),
            counts=dict(sorted(self._counts.items())),
            examples={name: tuple(keys) for name, keys in sorted(self._examples.items())},
            largest_group=self._groups.largest,
        )

    def _rows(self, number: int) -> dict[str, ndarray]:
        table = read_survey(self._out, number, [*_NODES, "text", "stated", "note"])
        return {name: table[name].to_numpy() for name in table.column_names}

    def _count_rows(self, name: str, number: int, which: ndarray) -> None:
        if len(which):
            self._counts[name] += len(which)
            keys = self._examples.setdefault(name, [])
            wanted = which[: _NUM_EXAMPLES - len(keys)]
            if len(wanted):
                keys += read_survey(self._out, number, ["key"])["key"].take(wanted).to_pylist()

    def _held_out(self, rows: dict[str, ndarray]) -> Marks:
        """Map the nodes that the source holds out to their splits."""
        nodes, values = [], []
        # Tokenizers train without text, so an equal text leaks nothing about held-out media.
        for name in _NODES if self._options.needs_text else _NODES[1:]:
            is_marked = rows["stated"] > _TRAIN
            if name == "subject" and self._options.group_by is not None:
                # Compositions are variants of training examples and share their group on purpose.
                is_marked &= rows["stated"] != _COMPOSITION
            nodes.append(rows[name][is_marked])
            values.append(rows["stated"][is_marked])
        return Marks.largest(nodes, values)

    def _identity(self, rows: dict[str, ndarray]) -> ndarray:
        """Hash files and text (files only if no text is needed): equal for duplicates; 0 without files."""
        text = rows["text"] if self._options.needs_text else np.zeros_like(rows["text"])
        has_file = (rows["image"] != 0) | (rows["audio"] != 0)
        number = mix_bits(mix_bits(mix_bits(text) + rows["image"]) + rows["audio"])
        return np.where(has_file, number, 0).astype(np.uint64)

    def _holding(self, rows: dict[str, ndarray]) -> tuple[Bool[ndarray, "rows"], Int64[ndarray, "rows"]]:
        """Return whether a held-out split other than the row's own shares its text or file, and that split
        with the cause, packed as `split | cause << 5`.
        """
        marks = np.stack([self._marks.of(rows[name]) for name in _NODES]).astype(np.int64)
        cause = marks.argmax(axis=0)
        if self._options.group_by is not None:
            cause = np.where(cause == 0, CAUSES.index("group"), cause)
        split = marks.max(axis=0)
        return split > np.maximum(rows["stated"], _TRAIN), split | cause << 5

    def _drawn(self, rows: dict[str, ndarray]) -> ndarray:
        position = self._groups.of_rows(rows["subject"], [rows["image"], rows["audio"]])
        validation = 0.0 if "validation" in self._own else self._options.validation
        test = 0.0 if "test" in self._own else self._options.test
        split = np.where(position < validation + test, STATED.index("test"), _TRAIN)
        return np.where(position < validation, STATED.index("validation"), split)


def _is_linked(rows: dict[str, ndarray]) -> ndarray:
    return (rows["image"] != 0) | (rows["audio"] != 0) | (rows["stated"] > _TRAIN)
