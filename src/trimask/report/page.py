"""The page: sections of blocks, with pictures and sounds embedded as data URIs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import final

import numpy as np
import soundfile
from jaxtyping import Float
from PIL import Image

from trimask.io import atomic_write
from trimask.report.block import Block, prose_html
from trimask.report.style import STYLE

_EMPTY_SECONDS = 0.05


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image with an optional label below it."""

    image: Image.Image
    label: str = ""

    def html(self) -> str:
        out = io.BytesIO()
        self.image.save(out, format="PNG", optimize=True)
        label = f"<span>{escape(self.label)}</span>" if self.label else ""
        alt = escape(self.label or "picture", quote=True)
        source = data_uri("image/png", out.getvalue())
        return f"<span class=picture><img alt='{alt}' src='{source}'>{label}</span>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """A player for mono samples in [-1, 1] at `sample_rate` Hz, embedded as 16-bit WAV."""

    samples: Float[np.ndarray, "samples"]
    sample_rate: int
    label: str = ""

    def html(self) -> str:
        least = np.zeros(int(_EMPTY_SECONDS * self.sample_rate), dtype=np.float32)
        samples = self.samples if len(self.samples) else least
        out = io.BytesIO()
        soundfile.write(out, np.clip(samples, -1, 1), self.sample_rate, format="WAV", subtype="PCM_16")
        uri = data_uri("audio/wav", out.getvalue())
        label = f"<span>{escape(self.label)}</span>" if self.label else ""
        return f"<span class=sound>{label}<audio controls preload=metadata src='{uri}'></audio></span>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One example: the prompt as `title`, and the results; `words` are (label, text) pairs."""

    title: str = ""
    pictures: Sequence[Picture] = ()
    sounds: Sequence[Sound] = ()
    words: Sequence[tuple[str, str]] = ()

    def html(self) -> str:
        shown = "".join(picture.html() for picture in self.pictures)
        parts = [f"<div class=pictures>{shown}</div>"] if shown else []
        parts += [sound.html() for sound in self.sounds]
        parts += [f"<p><span>{escape(label)}</span> {escape(text)}</p>" for label, text in self.words]
        title = f"<h4>{escape(self.title)}</h4>" if self.title else ""
        return f"<article class=card>{title}{''.join(parts)}</article>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Cards(Block):
    """A grid of examples: many columns (for pictures), or few if `is_wide` (for sounds and texts).

    A single wide card takes the whole row.
    """

    heading: str
    cards: Sequence[Card]
    note: str = ""
    is_wide: bool = False

    def html(self) -> str:
        note = f"<p class=note>{prose_html(self.note)}</p>" if self.note else ""
        cards = "".join(card.html() for card in self.cards)
        wide = " one" if len(self.cards) == 1 else " wide"
        kind = f"cards{wide if self.is_wide else ''}"
        return f"<h3>{escape(self.heading)}</h3>{note}<div class='{kind}'>{cards}</div>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Prose(Block):
    """A paragraph; `is_note` sets explanations in smaller, grey type."""

    text: str
    is_note: bool = False

    def html(self) -> str:
        return f"<p{' class=note' if self.is_note else ''}>{prose_html(self.text)}</p>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Table(Block):
    """A table; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    heading: str = ""
    note: str = ""

    def html(self) -> str:
        head = "".join(f"<th>{prose_html(cell)}</th>" for cell in self.header)
        body = "".join(
            f"<tr>{''.join(f'<td>{prose_html(cell)}</td>' for cell in row)}</tr>" for row in self.rows
        )
        heading = f"<h3>{escape(self.heading)}</h3>" if self.heading else ""
        note = f"<p class=note>{prose_html(self.note)}</p>" if self.note else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"{heading}<div class=scroll>{table}</div>{note}"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing(Block):
    """A picture drawn as SVG, embedded as it is."""

    svg: bytes
    label: str

    def html(self) -> str:
        source = data_uri("image/svg+xml", self.svg)
        return f"<figure class=drawing><img alt='{escape(self.label, quote=True)}' src='{source}'></figure>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Code(Block):
    """Preformatted code, such as commands to copy."""

    text: str

    def html(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page with a title; adjacent charts are placed side by side."""

    title: str
    blocks: Sequence[Block]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A report."""

    title: str
    lead: str
    sections: Sequence[Section]

    def html(self) -> str:
        """Render the whole page; it loads nothing from elsewhere."""
        links = "".join(f"<a href='#s{i}'>{escape(s.title)}</a>" for i, s in enumerate(self.sections))
        body = "".join(
            f"<section id=s{i}><h2>{escape(s.title)}</h2>{''.join(b.html() for b in s.blocks)}</section>"
            for i, s in enumerate(self.sections)
        )
        title = escape(self.title)
        return (
            f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>"
            f"<style>{STYLE}</style></head><body><header><h1>{title}</h1><p>{prose_html(self.lead)}</p>"
            f"<nav>{links}</nav></header><main>{body}</main></body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page to `path`, atomically."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")


def data_uri(media_type: str, data: bytes) -> str:
    """Encode bytes as a `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
