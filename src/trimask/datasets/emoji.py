"""Captioned pictures: the emoji of three vendors, with the splits of the embedded data."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

from trimask import io
from trimask.datasets.benchmark import Benchmark, Collected, Source
from trimask.datasets.package import NpmPackage
from trimask.datasets.quickstart.emoji import SPLIT_FRACTION, canonical_hexcode, is_wanted, merge_bases
from trimask.datasets.quickstart.reader import load_images
from trimask.datasets.quickstart.splits import hash_split
from trimask.datasets.store import PackageStore


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Vendor:
    package: NpmPackage
    pictures: str
    source: Source


_MIT = "MIT"
CAPTIONS = NpmPackage(
    name="emojibase-data",
    version="17.0.0",
    sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)
FLUENT = "fluent-3d"
VENDORS: Mapping[str, _Vendor] = MappingProxyType(
    {
        FLUENT: _Vendor(
            package=NpmPackage(
                name="@lobehub/fluent-emoji-3d",
                version="1.1.0",
                sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            ),
            pictures="package/assets/*.webp",
            source=Source(
                work="Fluent Emoji, 3D style (folder fluent-3d)",
                licence=_MIT,
                attribution="Microsoft Corporation; packaged by LobeHub",
            ),
        ),
        "google": _Vendor(
            package=NpmPackage(
                name="emoji-datasource-google",
                version="16.0.0",
                sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            ),
            pictures="package/img/google/64/*.png",
            source=Source(
                work="Noto Emoji (folder google)",
                licence="Apache-2.0",
                attribution="Google; packaged by Cal Henderson",
            ),
        ),
        "twitter": _Vendor(
            package=NpmPackage(
                name="emoji-datasource-twitter",
                version="16.0.0",
                sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
            ),
            pictures="package/img/twitter/64/*.png",
            source=Source(
                work="Twemoji (folder twitter)",
                licence="CC-BY-4.0",
                attribution="Copyright Twitter, Inc and other contributors; packaged by Cal Henderson",
            ),
        ),
    }
)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Caption:
    text: str
    tags: list[str]
    base: str
    split: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Emoji(Benchmark):
    """Every picture as its vendor delivers it: Fluent 256 px, the others 64 px, all with transparency."""

    name: ClassVar[str] = "emoji"
    prepare_options: ClassVar[str] = "--group-by group"

    def collect(self, store: PackageStore, folder: Path) -> Collected:
        found: dict[str, dict[str, Path]] = {}
        for vendor, where in VENDORS.items():
            paths = sorted(store.unpack(where.package).glob(where.pictures))
            found[vendor] = {canonical_hexcode(path.stem): path for path in paths}
        captions = read_captions(store.unpack(CAPTIONS) / "package/en/data.json", found[FLUENT])
        rows: list[dict[str, Any]] = []
        dropped: dict[str, list[str]] = {}
        for vendor, pictures in found.items():
            held_out = _held_out(pictures, captions)
            for code, path in pictures.items():
                caption = captions.get(code)
                if caption is None:
                    dropped.setdefault("no caption, keycaps and bare skin tones", []).append(
                        f"{vendor}/{code}"
                    )
                elif caption.split == "train" and io.sha256(path) in held_out:
                    reason = "the picture of another emoji, which is held out"
                    dropped.setdefault(reason, []).append(f"{vendor}/{code}")
                else:
                    rows.append(_place(folder, vendor, path, code, caption))
        sources = (*(vendor.source for vendor in VENDORS.values()), _CAPTIONS_SOURCE)
        return Collected(rows=rows, sources=sources, dropped=dropped)


_CAPTIONS_SOURCE = Source(
    work="emojibase, English labels and tags (the captions)", licence=_MIT, attribution="Miles Johnson"
)


def read_captions(path: Path, fluent: dict[str, Path]) -> dict[str, _Caption]:
    """Read the captions: code points -> caption.

    An emoji has the same base and split as in the embedded data; one that the embedded data lacks has the
    split of its base.
    """
    entries = [entry for entry in json.loads(path.read_text("utf-8")) if is_wanted(entry)]
    entries.sort(key=lambda entry: entry["order"])
    base_of = merge_bases(entries, fluent)
    embedded = {image.hexcode: image.split for image in load_images()}
    captions: dict[str, _Caption] = {}
    for entry in entries:
        base = base_of[canonical_hexcode(entry["hexcode"])]
        for variant in [entry, *entry.get("skins", [])]:
            code = canonical_hexcode(variant["hexcode"])
            captions[code] = _Caption(
                text=variant["label"],
                tags=list(entry.get("tags", [])),
                base=base,
                split=embedded.get(code) or hash_split("emoji", base, fraction=SPLIT_FRACTION),
            )
    return captions


def _held_out(pictures: dict[str, Path], captions: dict[str, _Caption]) -> set[str]:
    """Return the SHA-256 of the held-out pictures, since some flags have identical pictures."""
    return {
        io.sha256(path)
        for code, path in pictures.items()
        if code in captions and captions[code].split != "train"
    }


def _place(folder: Path, vendor: str, path: Path, code: str, caption: _Caption) -> dict[str, Any]:
    """Copy the picture into `folder`; return its row."""
    name = f"{vendor}/{code}{path.suffix}"
    (folder / vendor).mkdir(exist_ok=True)
    shutil.copyfile(path, folder / name)
    return {
        "file_name": name,
        "text": caption.text,
        "tags": caption.tags,
        "group": caption.base,
        "vendor": vendor,
        "split": caption.split,
        "licence": VENDORS[vendor].source.licence,
    }
