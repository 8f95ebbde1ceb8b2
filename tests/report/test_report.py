"""The page is valid, asks for nothing from elsewhere, and what is in it can be read back."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from trimask.report import (
    Card,
    Cards,
    Chart,
    Code,
    Drawing,
    Floor,
    Page,
    Picture,
    Prose,
    Section,
    Sound,
    Table,
)
from trimask.report.chart import _ticks

_VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class PageReader(HTMLParser):
    """Checks nesting, and collects what is embedded and what is linked."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[tuple[str, str]] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        if values.get("src") is not None:
            self.sources.append((tag, values["src"] or ""))
        if values.get("href") is not None:
            self.links.append(values["href"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(html: str) -> PageReader:
    """Assert that `html` is well nested and self-contained, and that all its images and sounds decode."""
    reader = PageReader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert not {"script", "link", "iframe"} & set(reader.tags)
    assert all(link.startswith("#") for link in reader.links)
    assert "url(" not in html and "@import" not in html
    for tag, source in reader.sources:
        kind, _, data = source.partition(";base64,")
        raw = io.BytesIO(base64.b64decode(data, validate=True))
        if kind == "data:image/svg+xml":
            assert tag == "img" and raw.read().startswith(b"<svg")
        elif tag == "img":
            assert kind == "data:image/png"
            Image.open(raw).load()
        else:
            assert (tag, kind) == ("audio", "data:audio/wav")
            soundfile.read(raw)
    return reader


def _page(**changes: Any) -> Page:
    image = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    tone = np.sin(np.arange(1600) / 5).astype(np.float32)
    blocks = [
        Prose(text="see `a<b` & more"),
        Cards(
            heading="<Pictures>",
            cards=[
                Card(
                    title='"x" & <y>',
                    pictures=[Picture(image=image, label="it's")],
                    sounds=[
                        Sound(samples=tone, sample_rate=16_000, label="real"),
                        Sound(samples=tone[:0], sample_rate=16_000),
                    ],
                    words=[("generated", "<script>alert(1)</script>")],
                )
            ],
        ),
        Chart(
            title="Text",
            x=[1, 2, 3],
            y=[9.0, float("nan"), 4.0],
            x_label="step",
            y_label="bits",
            floors=[Floor(label="uniform", value=10.0)],
        ),
        Chart(title="None", x=[], y=[], x_label="step", y_label="bits"),
        Table(header=("a", "b"), rows=[("`x`", "1 < 2")], heading="T", note="n"),
        Code(text="trimask sample quickstart --prompt '…' > x"),
    ]
    settings = {"title": "A & B", "lead": "lead", "sections": [Section(title="One", blocks=blocks)]}
    return Page(**(settings | changes))


def test_page_is_self_contained_and_escaped() -> None:
    reader = check_page(_page().html())
    assert [tag for tag, _ in reader.sources] == ["img", "audio", "audio"]
    assert "<script>alert(1)</script>" in reader.text
    assert '"x" & <y>' in reader.text
    assert reader.tags.count("svg") == 1


def test_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    _page().write(path)
    _page(title="again").write(path)
    assert path.read_text(encoding="utf-8") == _page(title="again").html()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_drawing_is_embedded_as_it_is() -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    page = _page(sections=[Section(title="One", blocks=[Drawing(svg=svg, label='a "law"')])]).html()
    reader = check_page(page)
    assert [tag for tag, _ in reader.sources] == ["img"]
    assert f"alt='a &quot;law&quot;' src='data:image/svg+xml;base64,{base64.b64encode(svg).decode()}'" in page


def test_chart_stays_within_its_frame() -> None:
    y = [1e-3, 12.0, 3.0]
    html = Chart(title="t", x=[0, 500, 1234], y=y, x_label="x", y_label="y").html()
    points = html.split("points='")[1].split("'")[0].split()
    for point in points:
        x, height = (float(part) for part in point.split(","))
        assert 0 <= x <= 360 and 0 <= height <= 220


def test_ticks_are_round_and_cover() -> None:
    assert _ticks(0, 10) == [0, 5, 10]
    assert _ticks(0, 187) == [0, 50, 100, 150, 200]
    ticks = _ticks(-0.3, 0.7)
    assert ticks[0] <= -0.3 and ticks[-1] >= 0.7
    assert _ticks(0, 0)[0] == 0
