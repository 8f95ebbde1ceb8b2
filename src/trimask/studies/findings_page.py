"""Findings as one self-contained HTML page."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from trimask.report import Block, Code, Drawing, Page, Prose, Section, Table
from trimask.studies.findings import Findings, Panel
from trimask.studies.plot import draw
from trimask.studies.report import format_claim


def make_page(findings: Findings, *, title: str, lead: str, command: str) -> Page:
    """Lay out claims and pictures, then tables, then notes and the command that made them."""
    first: list[Block] = [Prose(text=format_claim(claim)) for claim in findings.claims]
    first += [_drawing(name, rows) for name, rows in findings.pictures.items() if any(rows)]
    tables: list[Block] = [
        Table(header=table.header, rows=table.rows, heading=table.title) for table in findings.tables
    ]
    how: list[Block] = [Prose(text=note) for note in findings.notes]
    sections = [Section(title="Findings", blocks=first)]
    sections += [Section(title="Figures", blocks=tables)] if tables else []
    return Page(
        title=title,
        lead=lead,
        sections=[*sections, Section(title="How", blocks=[*how, Code(text=command)])],
    )


def _drawing(name: str, rows: Sequence[Sequence[Panel]]) -> Drawing:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.svg"
        draw(rows, path)
        return Drawing(svg=path.read_bytes(), label=name.replace("_", " "))
