"""Triples: the stamps of Tux Paint, with captions in many languages and human readings of them."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, final

from PIL import Image

from trimask.datasets.benchmark import Benchmark, Collected, Source
from trimask.datasets.package import DebianPackage
from trimask.datasets.quickstart.splits import hash_split
from trimask.datasets.store import PackageStore
from trimask.errors import UserError

STAMPS = DebianPackage(
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
SPOKEN = ("en", "es", "fr", "ca", "ru", "bg", "ro", "be", "el", "da", "nl", "ml")
"""Languages with recordings of captions: 65 in English, nearly all in Spanish and French."""
SPLIT_FRACTION = 0.08  # of the stamps, each to validation and test
DRAWN_SIZE = 512  # pixels of the longer side of an SVG; the median PNG has 199
_LICENCE = "GPL-2"
_CAPTION = re.compile(r"([\w@.]+?)\.utf8=(.*)")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tuxpaint(Benchmark):
    """A row for each stamp and each of `languages` in which it has a caption, with its recording if any."""

    name: ClassVar[str] = "tuxpaint"
    prepare_options: ClassVar[str] = "--speaker-column speaker --group-by group"

    languages: tuple[str, ...] = ("en", "es", "fr")

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in SPOKEN:
                raise UserError(f"no language {language!r} in tuxpaint: choose from {', '.join(SPOKEN)}")
        if len(set(self.languages)) != len(self.languages) or not self.languages:
            raise UserError(f"languages {','.join(self.languages)!r}: give at least one, and each only once")

    def collect(self, store: PackageStore, folder: Path) -> Collected:
        draw = svg_renderer()  # before the download, since it may be missing
        root = store.unpack(STAMPS) / "usr/share/tuxpaint/stamps"
        rows: list[dict[str, Any]] = []
        dropped: dict[str, list[str]] = {}
        stamps = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.txt"))
        for number, stamp in enumerate(stamps, 1):
            store.report(f"reading stamps {number}/{len(stamps)}")
            captions = read_captions(root / f"{stamp}.txt")
            reason = reason_to_drop(root, stamp, captions) or place_picture(root, stamp, folder, draw)
            if reason is not None:
                dropped.setdefault(reason, []).append(stamp)
                continue
            for language in self.languages:
                if captions.get(language):
                    rows.append(_place(folder, root, stamp, language, captions))
                else:
                    dropped.setdefault(f"no caption in {language}", []).append(stamp)
        return Collected(rows=rows, sources=(SOURCE,), dropped=dropped)


SOURCE = Source(
    work="Tux Paint stamps: pictures, captions and recordings",
    licence=f"{_LICENCE} (usr/share/doc/tuxpaint-stamps-default/copyright in the package)",
    attribution="Copyright 2002-2022 Bill Kendrick and the contributors to Tux Paint. Changed here: "
    "pictures are padded to squares, SVG is drawn as PNG.",
)


def read_captions(path: Path) -> dict[str, str]:
    """Read captions: language -> caption. The first line is English, the others have the form `fr.utf8=…`."""
    first, *rest = path.read_text("utf-8").splitlines() or [""]
    captions = {"en": " ".join(first.split())}
    for line in rest:
        if found := _CAPTION.fullmatch(line.strip()):
            captions[found[1]] = " ".join(found[2].split())
    return captions


def reason_to_drop(root: Path, stamp: str, captions: dict[str, str]) -> str | None:
    """Return why a stamp is omitted; None if it is not."""
    if stamp.startswith("symbols/"):
        return "letters, numbers and signs"
    if not any((root / f"{stamp}{suffix}").is_file() for suffix in (".png", ".svg")):
        return "no picture"
    return None if captions["en"] else "no caption"


def svg_renderer() -> Callable[..., bytes]:
    """Return resvg-py's function that renders an SVG file as PNG. Raise ImportError without resvg-py."""
    try:
        from resvg_py import svg_to_bytes  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ImportError(
            "some stamps of tuxpaint are SVG files: install trimask[svg], or pip install resvg-py"
        ) from error
    return svg_to_bytes


def place_picture(root: Path, stamp: str, folder: Path, draw: Callable[..., bytes]) -> str | None:
    """Write the stamp's picture into `folder` as PNG, centred on a transparent square.

    Without the square, `trimask prepare` would crop the ends of a long picture.

    Returns:
        Why the picture cannot be read; None if it was written.
    """
    source = root / f"{stamp}.png"
    if source.is_file():
        with Image.open(source, formats=("PNG",)) as opened:
            picture = opened.convert("RGBA")
    else:
        try:
            picture = _render(source.with_suffix(".svg"), draw)
        except ValueError:  # raised by resvg for a drawing without a size
            return "an SVG that cannot be drawn"
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    (folder / f"{stamp}.png").parent.mkdir(parents=True, exist_ok=True)
    square.save(folder / f"{stamp}.png", format="PNG")
    return None


def _render(path: Path, draw: Callable[..., bytes]) -> Image.Image:
    """Render an SVG file with DRAWN_SIZE pixels on its longer side, without system fonts, which differ."""
    wide = Image.open(
        BytesIO(draw(svg_path=str(path), width=DRAWN_SIZE, skip_system_fonts=True)), formats=("PNG",)
    )
    if wide.height <= DRAWN_SIZE:
        return wide.convert("RGBA")
    tall = Image.open(
        BytesIO(draw(svg_path=str(path), height=DRAWN_SIZE, skip_system_fonts=True)), formats=("PNG",)
    )
    return tall.convert("RGBA")


def _place(folder: Path, root: Path, stamp: str, language: str, captions: dict[str, str]) -> dict[str, Any]:
    """Copy the recording, if any, and return the row. Stamps with equal English captions share a split."""
    audio = f"{stamp}_desc{'' if language == 'en' else '_' + language}.ogg"
    is_spoken = (root / audio).is_file()
    if is_spoken:
        shutil.copyfile(root / audio, folder / audio)
    text = captions[language]
    if is_spoken and language == "en":
        text = re.sub("^(A|An|The) ", "", text)  # only these recordings omit the article
    group = " ".join(re.findall(r"\w+", captions["en"].lower()))
    return {
        "file_name": f"{stamp}.png",
        "audio": audio if is_spoken else None,
        "text": text,
        "language": language,
        "speaker": f"tuxpaint_{language}",
        "group": group,
        "split": hash_split("tuxpaint", group, fraction=SPLIT_FRACTION),
        "licence": _LICENCE,
    }
