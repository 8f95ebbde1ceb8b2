"""Reports as self-contained HTML files."""

from trimask.report.chart import Chart, Floor
from trimask.report.page import (
    Block,
    Card,
    Cards,
    Code,
    Drawing,
    Page,
    Picture,
    Prose,
    Section,
    Sound,
    Table,
)

__all__ = [
    "Block",
    "Card",
    "Cards",
    "Chart",
    "Code",
    "Drawing",
    "Floor",
    "Page",
    "Picture",
    "Prose",
    "Section",
    "Sound",
    "Table",
]
