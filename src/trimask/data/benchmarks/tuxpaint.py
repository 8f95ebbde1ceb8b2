"""Triples: the stamps of Tux Paint, with captions in many languages and people who read them."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from trimask.data.benchmarks.benchmark import Benchmark, Collected, Source
from trimask.data.benchmarks.package import DebianPackage
from trimask.data.benchmarks.store import PackageStore
from trimask.data.quickstart.splits import hash_split

STAMPS = DebianPackage(
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
SPOKEN = ("en", "es", "fr", "ca", "ru", "bg", "ro", "be", "el", "da", "nl", "ml")
"""The languages in which captions are read aloud: English 65 of them, Spanish and French nearly all."""
SPLIT_FRACTION = 0.08  # of the stamps, each to validation and test
_LICENCE = "GPL-2"
_CAPTION = re.compile(r"([\w@.]+?)\.utf8=(.*)")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Tuxpaint(Benchmark):
    """A row for each stamp and each of `languages` that has a caption for it, with a recording where there is
    one.
    """

    name: ClassVar[str] = "tuxpaint"
    prepare_options: ClassVar[str] = "--speaker-column speaker --group-by group"

    languages: tuple[str, ...] = ("en", "es", "fr")

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in SPOKEN:
                raise ValueError(f"no language {language!r} in tuxpaint: choose from {', '.join(SPOKEN)}")
        if len(set(self.languages)) != len(self.languages) or not self.languages:
            raise ValueError(f"languages {','.join(self.languages)!r}: name each once, and at least one")

    def collect(self, store: PackageStore, folder: Path) -> Collected:
        root = store.unpack(STAMPS) / "usr/share/tuxpaint/stamps"
        rows: list[dict[str, Any]] = []
        dropped: dict[str, list[str]] = {}
        for path in sorted(root.rglob("*.txt")):
            stamp = path.relative_to(root).with_suffix("").as_posix()
            reason = reason_to_drop(stamp, path)
            if reason is not None:
                dropped.setdefault(reason, []).append(stamp)
                continue
            captions = read_captions(path)
            for language in self.languages:
                if captions.get(language):
                    rows.append(_place(folder, root, stamp, language, captions))
                else:
                    dropped.setdefault(f"no caption in {language}", []).append(stamp)
        return Collected(rows=rows, sources=(SOURCE,), dropped=dropped)


SOURCE = Source(
    work="Tux Paint stamps: pictures, captions and recordings",
    licence=f"{_LICENCE} (usr/share/doc/tuxpaint-stamps-default/copyright in the package)",
    attribution="Copyright 2002-2022 Bill Kendrick and the contributors to Tux Paint",
)


def read_captions(path: Path) -> dict[str, str]:
    """Language -> caption: English in the first line, then `fr.utf8=…`."""
    first, *rest = path.read_text("utf-8").splitlines() or [""]
    captions = {"en": " ".join(first.split())}
    for line in rest:
        if found := _CAPTION.fullmatch(line.strip()):
            captions[found[1]] = " ".join(found[2].split())
    return captions


def reason_to_drop(stamp: str, path: Path) -> str | None:
    """Why a stamp is left out; None if it is not."""
    if stamp.startswith("symbols/"):
        return "letters, numbers and signs"
    if not path.with_suffix(".png").is_file():
        return "drawn as SVG alone" if path.with_suffix(".svg").is_file() else "no picture"
    if not read_captions(path)["en"]:
        return "no caption"
    return None


def _place(folder: Path, root: Path, stamp: str, language: str, captions: dict[str, str]) -> dict[str, Any]:
    """Copy the picture and the recording; their row. Stamps of one English caption share a split."""
    image, audio = f"{stamp}.png", f"{stamp}_desc{'' if language == 'en' else '_' + language}.ogg"
    names = [name for name in (image, audio) if (root / name).is_file()]
    for name in names:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    group = " ".join(re.findall(r"\w+", captions["en"].lower()))
    return {
        "file_name": image,
        "audio": audio if audio in names else None,
        "text": captions[language],
        "language": language,
        "speaker": f"tuxpaint_{language}",
        "group": group,
        "split": hash_split("tuxpaint", group, fraction=SPLIT_FRACTION),
        "licence": _LICENCE,
    }
