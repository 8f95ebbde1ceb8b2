"""Three vendors' pictures, split as the embedded ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fake_packages import FakeArchive
from trimask.datasets import emoji
from trimask.datasets.emoji import FLUENT, Emoji
from trimask.datasets.fetch import fetch
from trimask.datasets.quickstart.emoji import SPLIT_FRACTION
from trimask.datasets.quickstart.reader import load_images
from trimask.datasets.quickstart.splits import hash_split


def entry(order: int, hexcode: str, label: str, **more: object) -> dict[str, object]:
    return {"order": order, "hexcode": hexcode, "label": label, "group": 3, "tags": ["tag"], **more}


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held_out = next(image for image in load_images() if image.split == "validation")
    trained = next(image for image in load_images() if image.split == "train" and image.base != held_out.base)
    withheld = next(image for image in load_images() if image.split == "composition")
    codes = trained.hexcode, held_out.hexcode, withheld.base, withheld.hexcode
    assert len(set(codes)) == 4
    toned = {"hexcode": withheld.hexcode, "label": "toned"}
    entries = [
        entry(1, trained.hexcode, "trained"),
        entry(2, held_out.hexcode, "held out"),
        entry(3, withheld.base, "plain", skins=[toned]),
        entry(4, "1FFFE", "new"),  # Fluent has not drawn it
    ]
    archive = FakeArchive(tmp_path / "fake", monkeypatch)
    data = json.dumps(entries).encode()
    monkeypatch.setattr(emoji, "CAPTIONS", archive.add(emoji.CAPTIONS, {"package/en/data.json": data}))
    vendors = {}
    for name, folder, suffix in (
        (FLUENT, "assets", "webp"),
        ("google", "img/google/64", "png"),
        ("twitter", "img/twitter/64", "png"),
    ):
        drawn = [*codes, "1f51f", *([] if name == FLUENT else ["1FFFE"])]
        pictures = {code: f"{name} {code}".encode() for code in drawn}
        if name == "google":  # drawn as one that is held out
            pictures[trained.hexcode] = pictures[held_out.hexcode]
        files = {f"package/{folder}/{code.lower()}.{suffix}": data for code, data in pictures.items()}
        vendor = emoji.VENDORS[name]
        vendors[name] = replace(vendor, package=archive.add(vendor.package, files))
    monkeypatch.setattr(emoji, "VENDORS", vendors)

    out = tmp_path / "set"
    manifest, _ = fetch(Emoji(), out)
    assert manifest["dropped"] == {
        "no caption, keycaps and bare skin tones": [f"{name}/1F51F" for name in sorted(vendors)],
        "the picture of another emoji, which is held out": [f"google/{trained.hexcode}"],
    }
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert {row["vendor"] for row in rows} == set(vendors)
    for row in rows:
        code = Path(row["file_name"]).stem
        assert (out / row["file_name"]).read_bytes() == f"{row['vendor']} {code}".encode()
        assert (
            row["split"]
            == {
                trained.hexcode: "train",
                held_out.hexcode: "validation",
                withheld.base: "train",
                withheld.hexcode: "composition",
                "1FFFE": hash_split("emoji", "1FFFE", fraction=SPLIT_FRACTION),
            }[code]
        )
        assert row["group"] == (withheld.base if code == withheld.hexcode else code)
        assert row["tags"] == ["tag"] and row["licence"] == vendors[row["vendor"]].source.licence
    assert len(rows) == 4 + 3 + 2 + 4 and {"toned", "new"} < {row["text"] for row in rows}
    assert "CC-BY-4.0" in (out / "LICENCES.md").read_text("utf-8")
