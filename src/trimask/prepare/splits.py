"""The split of every example, decided for the whole source before any is decoded.

What the source holds out stays out: an example of another split that shares its text or its file is set
aside. What is left is drawn, in groups that share neither a text nor a file with one another.
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
from trimask.prepare.groups import Groups, Marks, mixed, repeated_rows
from trimask.prepare.survey import Survey, num_surveyed, read_survey, survey_path
from trimask.prepare.tally import Board, Counts
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import Plan
from trimask.sources.stated import Note

SUMMARY = "splits.json"
_TRAIN, _COMPOSITION = STATED.index("train"), STATED.index("composition")
_NODES = ("subject", "image", "audio")
_NUM_EXAMPLES = 3
OnCounts = Callable[[Counts], None]
_TOLD = {
    "contradiction": "in a table of one split and a folder of another are held out",
    "held_out": "set aside, since their text or file stands in a split that the source holds out",
    "overruled": "trained on by a column of splits, in a file or folder whose name holds them out",
    "repeated": "set aside, since they repeat a file that was there before",
}
_NOTES = {Note.CONTRADICTION: "contradiction", Note.OVERRULED: "overruled"}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """What was decided about splits, for the manifest.

    Attributes:
        own: splits that the source names itself: they are kept, and not drawn.
        counts: examples by what was decided against them, or between two things that the source says:
            `held_out` (set aside: their text or file stands in a split that the source holds out), `repeated`
            (set aside: the same file with the same text again, or the same file where no text is needed),
            `contradiction` (held out: a table of one split names a file in the folder of another),
            `overruled` (a column trains on what a name holds out).
        examples: keys of the first ones.
        largest_group: examples of the largest group that shares texts or files, of those that are drawn.
    """

    own: tuple[str, ...] = ()
    counts: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    largest_group: int = 0

    def told(self) -> str | None:
        """One line for users, if anything was decided against what the source says or holds twice."""
        said = [f"{count:,} {_TOLD[name]}" for name, count in self.counts.items()]
        return f"splits: {'; '.join(said)}" if said else None


def decide(
    plan: Plan,
    options: PrepareOptions,
    out: Path,
    *,
    engine: Engine | None = None,
    on_survey: OnCounts = lambda counts: None,
) -> Decisions:
    """Decide the split of every item of `plan`, into files under `out`; what is decided already, and whole,
    stays.

    Args:
        on_survey: called with what is looked through, now and then and at the end.
    """
    if (before := _decided_before(plan, out)) is not None:
        return before
    missing = [part for part in plan.parts if not survey_path(out, part.number).exists()]
    survey = Survey(options=options, out=out.resolve())
    num_done = len(plan.parts) - len(missing)
    before = sum(num_surveyed(out, part.number) for part in plan.parts)
    expected = [part.reader.num_expected for part in missing]
    known = [number for number in expected if number is not None]
    total = before + sum(known) if len(known) == len(expected) else None
    board = Board(out, num_parts=len(plan.parts), num_done=num_done, items=before, num_items=total)
    with board.shown(on_survey) as show:
        for number in (engine or Local(workers=1)).run(survey, missing):
            board.finish(num_surveyed(out, number))
            show()
        decisions = _Source(plan, options, out).decide()
    stored = {"decisions": to_dict(decisions), "files": _hashes(plan, out)}
    io.write_json(out / SUMMARY, {**stored, "sha256": _hash(stored)})
    return decisions


def _decided_before(plan: Plan, out: Path) -> Decisions | None:
    """The summary of what is decided, if it and the files of all parts are as they were written."""
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


def decided(out: Path, number: int) -> Iterator[Decision]:
    """About each item of a part, in order.

    Raises:
        UserError: the file is damaged, or the source has more items than were looked through.
    """
    path = _path(out, number)
    try:
        codes = pq.read_table(path, page_checksum_verification=True)["decision"].to_numpy()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path} is damaged: the same command makes it again") from error
    for code in codes:
        yield Decision.unpack(int(code))
    raise UserError("the source changed while it was read: prepare it again into a new folder")


def _path(out: Path, number: int) -> Path:
    return out / "parts" / f"{number:06d}.splits.parquet"


@final
class _Source:
    """All surveyed rows of a source, read part by part; those with files, or held out, are also kept."""

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
        self._repeated = ~is_held & repeated_rows(np.where(is_held, 0, self._identity(rows)))
        is_drawn = ~is_held & ~self._repeated & (rows["stated"] <= _TRAIN)
        drawn = {name: rows[name][is_drawn] for name in _NODES}
        self._groups = Groups.of(drawn["subject"], [drawn["image"], drawn["audio"]])

    def decide(self) -> Decisions:
        """Write the decision of each row."""
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
            told = {"held_out": is_held, "repeated": is_again}
            told |= {name: rows["note"] == note.value for note, name in _NOTES.items()}
            for name, which in told.items():
                self._tell(name, number, np.flatnonzero(which))
        return Decisions(
            own=tuple(sorted(self._own)),
            counts=dict(sorted(self._counts.items())),
            examples={name: tuple(keys) for name, keys in sorted(self._examples.items())},
            largest_group=self._groups.largest,
        )

    def _rows(self, number: int) -> dict[str, ndarray]:
        table = read_survey(self._out, number, [*_NODES, "text", "stated", "note"])
        return {name: table[name].to_numpy() for name in table.column_names}

    def _tell(self, name: str, number: int, which: ndarray) -> None:
        if len(which):
            self._counts[name] += len(which)
            keys = self._examples.setdefault(name, [])
            wanted = which[: _NUM_EXAMPLES - len(keys)]
            if len(wanted):
                keys += read_survey(self._out, number, ["key"])["key"].take(wanted).to_pylist()

    def _held_out(self, rows: dict[str, ndarray]) -> Marks:
        """What the source holds out, and in which split."""
        nodes, values = [], []
        # What needs no text, as tokenizers do, learns nothing of what is held out from a text.
        for name in _NODES if self._options.needs_text else _NODES[1:]:
            is_marked = rows["stated"] > _TRAIN
            if name == "subject" and self._options.group_by is not None:
                # Compositions are variants of what is trained on: they share its group, by a column.
                is_marked &= rows["stated"] != _COMPOSITION
            nodes.append(rows[name][is_marked])
            values.append(rows["stated"][is_marked])
        return Marks.largest(nodes, values)

    def _identity(self, rows: dict[str, ndarray]) -> ndarray:
        """Equal for rows with the same files and the same text; where no text is needed, the same files."""
        text = rows["text"] if self._options.needs_text else np.zeros_like(rows["text"])
        has_file = (rows["image"] != 0) | (rows["audio"] != 0)
        number = mixed(mixed(mixed(text) + rows["image"]) + rows["audio"])
        return np.where(has_file, number, 0).astype(np.uint64)

    def _holding(self, rows: dict[str, ndarray]) -> tuple[Bool[ndarray, "rows"], Int64[ndarray, "rows"]]:
        """Whether a split that is held out, other than a row's own, has its text or file; which, and why."""
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
