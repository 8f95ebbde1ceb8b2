"""Write findings as Markdown with pictures beside it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimask.io import atomic_write, write_json
from trimask.studies.findings import Claim, Findings, Table
from trimask.studies.plot import draw
from trimask.studies.store import DERIVED, DerivedValues

REPORT = "report.md"
_MOST_SHOWN = 200  # characters of a derived value
_VERDICTS = {True: "holds", False: "does not hold", None: "cannot tell"}


def write_report(
    findings: Findings,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    derived: Table | None = None,
) -> Path:
    """Write `report.md` and its pictures into `folder`; `facts` state how the figures were obtained, and
    `derived` lists the derived values.
    """
    pictures = {name: rows for name, rows in findings.pictures.items() if any(rows)}
    for name, rows in pictures.items():
        draw(rows, folder / f"{name}.svg")
    for name, values in findings.files.items():
        write_json(folder / name, values)
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += [f"- {format_claim(claim)}" for claim in findings.claims]
    for name in pictures:
        lines += ["", f"![{name.replace('_', ' ')}]({name}.svg)"]
    for table in (*findings.tables, *([derived] if derived else [])):
        lines += ["", *_table(table)]
    for note in findings.notes:
        lines += ["", note]
    path = folder / REPORT
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def describe_derived(derived: DerivedValues) -> Table | None:
    """Tabulate the derived values, each with the time and the number of results before which it was stored;
    None if there are none.
    """
    if not derived.values:
        return None
    rows = tuple(
        (
            name,
            _shorten(json.dumps(value, ensure_ascii=False)),
            derived.times[name],
            f"{len(derived.sources(name))}",
        )
        for name, value in derived.values.items()
    )
    return Table(
        title="Derived values: stored once, before the trials that need them",
        header=("name", "value", "stored at", "results by then"),
        rows=rows,
    )


def findings_to_json(findings: Findings) -> dict[str, Any]:
    """Convert claims, tables and notes to JSON values."""
    return {
        "claims": [{"text": claim.text, "holds": claim.holds} for claim in findings.claims],
        "tables": [
            {"title": t.title, "header": list(t.header), "rows": [list(row) for row in t.rows]}
            for t in findings.tables
        ],
        "notes": list(findings.notes),
    }


def format_claim(claim: Claim) -> str:
    """Format the verdict and the sentence."""
    return f"{_VERDICTS[claim.holds]}: {claim.text}"


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… (whole in {DERIVED})"


def _table(table: Table) -> Iterator[str]:
    yield f"**{table.title}**"
    yield ""
    yield "| " + " | ".join(table.header) + " |"
    yield "|" + "---|" * len(table.header)
    for row in table.rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
