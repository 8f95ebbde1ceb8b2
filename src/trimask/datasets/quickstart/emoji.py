"""Captioned emoji: Fluent 3D pictures joined with emojibase labels by code point, grouped by base emoji."""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from trimask.datasets.quickstart.splits import hash_split, withheld_variants
from trimask.datasets.quickstart.spoken import spoken_form

IMAGE_SIZE = 64
SPLIT_FRACTION = 0.07  # of the base emoji, each to validation and test
COMPOSITION_FRACTION = 0.06  # of the tone variants of the training bases
FLAGS = "flags"
PEOPLE_GROUP = 1  # emojibase's number of "people-body"
GENDER_WORDS = frozenset({"man", "woman", "person", "men", "women", "people", "and"})
# Mean squared difference, of 255^2; pairs that look the same at a glance have 0 to 14.
LOOK_ALIKE = 16.0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class EmojiRow:
    """One picture: its code points, the base emoji it varies, caption, tags, group, WebP bytes and split."""

    hexcode: str
    base: str
    caption: str
    tags: list[str]
    group: str
    image: bytes
    split: str

    @property
    def is_spoken(self) -> bool:
        """Whether the caption is spoken: it is not a flag or a skin-tone variant."""
        return self.group != FLAGS and "skin tone" not in self.caption


def canonical_hexcode(name: str) -> str:
    """Convert to upper case without variation selectors: `1f468-200d-2695-fe0f` -> `1F468-200D-2695`."""
    points = [f"{int(part, 16):X}" for part in name.replace("_", "-").split("-")]
    return "-".join(point for point in points if point != "FE0F")


def encode_picture(path: Path) -> bytes:
    """Encode a picture as lossless WebP: 64x64, RGB on white, resized by a Hamming filter (no ringing)."""
    with Image.open(path, formats=("PNG", "WEBP")) as opened:
        picture = opened.convert("RGBA")
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    small = canvas.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.HAMMING)
    out = io.BytesIO()
    small.save(out, format="WEBP", lossless=True, quality=100, method=6)
    return out.getvalue()


def decode_picture(data: bytes) -> np.ndarray:
    """Decode a picture to a uint8 array of shape (64, 64, 3)."""
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
        return np.asarray(picture.convert("RGB"))


def is_wanted(entry: dict[str, Any]) -> bool:
    """Return whether an entry is not a regional indicator, a component (tone, hair) or a keycap."""
    return entry.get("group") not in (None, 2) and not entry["label"].startswith("keycap")


def family(entry: dict[str, Any]) -> str:
    """Return the name, in spoken words, that an entry shares with emoji of (nearly) the same picture.

    The direction is omitted, and for people also gender, hair and partners (`man astronaut` = `astronaut`;
    `woman: red hair` = `person`; `kiss: man, man` = `kiss`). Fluent's pictures of several such pairs are
    nearly identical, so a split between them would leak.
    """
    label = re.sub(r":? facing right| without snow", "", entry["label"])
    if entry["group"] != PEOPLE_GROUP:
        return spoken_form(label)
    plain = re.sub(r"\bmer(man|maid|person)\b", "merperson", label.partition(":")[0])
    words = [word for word in spoken_form(plain).split() if word not in GENDER_WORDS]
    return " ".join(["person:", *words])


def merge_bases(entries: list[dict[str, Any]], pictures: dict[str, Path]) -> dict[str, str]:
    """Map each entry's hexcode to its base: the first entry of the same family or with the same picture.

    Groups are joined transitively and named by their first member.
    """
    base: dict[str, str] = {}
    owner: dict[tuple[str, object], str] = {}
    for entry in entries:
        code = canonical_hexcode(entry["hexcode"])
        keys = [("spoken", spoken_form(entry["label"])), ("family", family(entry))]
        keys += [("picture", pictures[code].read_bytes())] if code in pictures else []
        found = [base[owner[key]] for key in keys if key in owner]
        base[code] = found[0] if found else code
        for other in found[1:]:
            base = {member: base[code] if root == other else root for member, root in base.items()}
        for key in keys:
            owner.setdefault(key, code)
    return base


def look_alikes(pictures: dict[str, np.ndarray]) -> set[str]:
    """Return names of pictures whose 16x16 thumbnail differs from another's by less than LOOK_ALIKE."""
    names = sorted(pictures)
    thumbnails = np.stack([pictures[name].reshape(16, 4, 16, 4, 3).mean((1, 3)).ravel() for name in names])
    distances = ((thumbnails[:, None] - thumbnails[None]) ** 2).mean(-1)
    np.fill_diagonal(distances, np.inf)
    return {name for name, row in zip(names, distances, strict=True) if row.min() < LOOK_ALIKE}


def read_emoji(packages: Path) -> list[EmojiRow]:
    """Read all wanted pictures with captions, by base in the order of the emoji standard."""
    data = packages / "emojibase-data-17.0.0" / "package"
    entries = [e for e in json.loads((data / "en" / "data.json").read_text("utf-8")) if is_wanted(e)]
    entries.sort(key=lambda entry: entry["order"])
    groups = json.loads((data / "meta" / "groups.json").read_text("utf-8"))["groups"]
    assets = packages / "lobehub-fluent-emoji-3d-1.1.0" / "package" / "assets"
    pictures = {canonical_hexcode(path.stem): path for path in sorted(assets.glob("*.webp"))}
    base_of = merge_bases(entries, pictures)
    rows = []
    for base, members in _by_base(entries, base_of).items():
        rows += _rows_of_base(base, members, pictures, groups)
    return rows


def _by_base(entries: list[dict[str, Any]], base_of: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        grouped.setdefault(base_of[canonical_hexcode(entry["hexcode"])], []).append(entry)
    return grouped


def _rows_of_base(
    base: str, entries: list[dict[str, Any]], pictures: dict[str, Path], groups: dict[str, str]
) -> list[EmojiRow]:
    variants = [(entry, skin) for entry in entries for skin in [entry, *entry.get("skins", [])]]
    codes = {canonical_hexcode(skin["hexcode"]): (entry, skin) for entry, skin in variants}
    encoded = {code: encode_picture(pictures[code]) for code in codes if code in pictures}
    split = hash_split("emoji", base, fraction=SPLIT_FRACTION)
    withheld: set[str] = set()
    if split == "train" and len(encoded) > 1:
        toned = {code for code, (entry, skin) in codes.items() if code in encoded and skin is not entry}
        distinct = toned - look_alikes({code: decode_picture(data) for code, data in encoded.items()})
        fraction = COMPOSITION_FRACTION * len(toned) / max(len(distinct), 1)
        withheld = withheld_variants(base, sorted(distinct), fraction=fraction)
    return [
        EmojiRow(
            hexcode=code,
            base=base,
            caption=codes[code][1]["label"],
            tags=list(codes[code][0].get("tags", [])),
            group=groups[str(codes[code][0]["group"])],
            image=data,
            split="composition" if code in withheld else split,
        )
        for code, data in encoded.items()
    ]
