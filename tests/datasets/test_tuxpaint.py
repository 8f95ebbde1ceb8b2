"""Stamps with captions and recordings become triples that `prepare` reads."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_packages import FakeArchive
from trimask.datasets import tuxpaint
from trimask.datasets.fetch import fetch
from trimask.datasets.tuxpaint import DRAWN_SIZE, Tuxpaint
from trimask.prepare.decode import read_part
from trimask.sources.item import Item
from trimask.sources.options import PrepareOptions
from trimask.sources.plan import make_plan

ROOT = "usr/share/tuxpaint/stamps"
CAPTION = b"A red boat.\nfr.utf8=Un bateau rouge.\nes.utf8=\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="40"><rect width="20" height="40"/></svg>'


def png(width: int, height: int, colour: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    archive = FakeArchive(tmp_path / "fake", monkeypatch)
    files = {
        "town/boat.txt": CAPTION,
        "town/boat.png": png(9, 3, (255, 0, 0)),
        "town/boat_desc.ogg": b"english",
        "town/boat_desc_fr.ogg": b"french",
        "town/boat.ogg": b"effect",
        "town/boat2.txt": b"A red boat!\nfr.utf8=Un autre bateau.\n",
        "town/boat2.svg": SVG,
        "town/broken.txt": b"A broken thing.\n",
        "town/broken.svg": b"<svg",
        "town/gone.txt": b"Gone.\n",
        "symbols/a.txt": b"A\n",
        "symbols/a.png": png(3, 3, (0, 0, 0)),
    }
    package = archive.add(tuxpaint.STAMPS, {f"{ROOT}/{name}": data for name, data in files.items()})
    monkeypatch.setattr(tuxpaint, "STAMPS", package)
    return archive


def test_rows_pictures_and_triples(tmp_path: Path, archive: FakeArchive):
    out = tmp_path / "set"
    manifest, _ = fetch(Tuxpaint(languages=("en", "fr", "es")), out)
    assert manifest["dropped"] == {
        "an SVG that cannot be drawn": ["town/broken"],
        "letters, numbers and signs": ["symbols/a"],
        "no caption in es": ["town/boat", "town/boat2"],
        "no picture": ["town/gone"],
    }
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [(row["file_name"], row["audio"], row["text"], row["speaker"]) for row in rows] == [
        ("town/boat.png", "town/boat_desc.ogg", "red boat.", "tuxpaint_en"),
        ("town/boat.png", "town/boat_desc_fr.ogg", "Un bateau rouge.", "tuxpaint_fr"),
        ("town/boat2.png", None, "A red boat!", "tuxpaint_en"),
        ("town/boat2.png", None, "Un autre bateau.", "tuxpaint_fr"),
    ]
    assert {row["group"] for row in rows} == {"a red boat"} and len({row["split"] for row in rows}) == 1
    assert (out / "town/boat_desc_fr.ogg").read_bytes() == b"french"
    assert not (out / "town/boat.ogg").exists()

    boat = np.asarray(Image.open(out / "town/boat.png"))
    assert boat.shape == (9, 9, 4)
    assert (boat[3:6] == (255, 0, 0, 255)).all() and (boat[[0, 1, 2, 6, 7, 8]][..., 3] == 0).all()
    drawn = np.asarray(Image.open(out / "town/boat2.png"))
    edge = DRAWN_SIZE // 4
    assert drawn.shape == (DRAWN_SIZE, DRAWN_SIZE, 4)
    assert (drawn[:, edge:-edge, 3] == 255).all() and (drawn[:, : edge - 1, 3] == 0).all()

    options = PrepareOptions(group_by="group", speaker_column="speaker")
    plan = make_plan(str(out), options)
    items = [item for part in plan.parts for item in read_part(part, options) if isinstance(item, Item)]
    pair = {"text", "image"}
    assert [item.modalities for item in items] == [pair | {"speech"}] * 2 + [pair] * 2
    assert items[1].speech == out / "town/boat_desc_fr.ogg" and items[1].image == out / "town/boat.png"
    assert [item.split for item in items] == [row["split"] for row in rows]


def test_a_language_that_nobody_reads():
    with pytest.raises(ValueError, match="no language 'de' in tuxpaint: choose from en, es, fr"):
        Tuxpaint(languages=("de",))
