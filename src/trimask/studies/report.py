"""Write findings as Markdown with pictures beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimask.io import atomic_write, write_json
from trimask.studies.findings import Claim, Findings, Table
from trimask.studies.plot import draw

REPORT = "report.md"
_VERDICTS = {True: "holds", False: "does not hold", None: "cannot tell"}


def write_report(findings: Findings, folder: Path, *, title: str, facts: Mapping[str, Any]) -> Path:
    """Write `report.md` and its pictures into `folder`; `facts` state how the figures were obtained."""
    pictures = {name: rows for name, rows in findings.pictures.items() if any(rows)}
    for name, rows in pictures.items():
        draw(rows, folder / f"{name}.svg")
    for name, values in findings.files.items():
        write_json(folder / name, values)
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += [f"- {format_claim(claim)}" for claim in findings.claims]
    for name in pictures:
        lines += ["", f"![{name.replace('_', ' ')}]({name}.svg)"]
    for table in findings.tables:
        lines += ["", *_table(table)]
    for note in findings.notes:
        lines += ["", note]
    path = folder / REPORT
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def findings_to_json(findings: Findings) -> dict[str, Any]:
    """Convert claims and tables to JSON values."""
    return {
        "claims": [{"text": claim.text, "holds": claim.holds} for claim in findings.claims],
        "tables": [
            {"title": t.title, "header": list(t.header), "rows": [list(row) for row in t.rows]}
            for t in findings.tables
        ],
    }


def format_claim(claim: Claim) -> str:
    """Format the verdict and the sentence."""
    return f"{_VERDICTS[claim.holds]}: {claim.text}"


def _table(table: Table) -> Iterator[str]:
    yield f"**{table.title}**"
    yield ""
    yield "| " + " | ".join(table.header) + " |"
    yield "|" + "---|" * len(table.header)
    for row in table.rows:
        yield "| " + " | ".join(row) + " |"
