"""Shards: immutable files of tokenized examples, combined into one source."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int

from trimask import io, rng
from trimask.data.shard_layout import check_layout
from trimask.errors import UserError

KIND = "shard"
_OPEN_SHARDS = 256  # a mapped file takes a descriptor, of which a process often has 1024
_NARROW = 1 << 16
_NAME = re.compile(r"(?P<split>[a-z]+)/(?P<source>[a-z_]+)-(?P<part>[0-9]{6,12})-[0-9]{3,12}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 53  # of what is counted: beyond it, sums would overflow


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Example:
    """A tokenized example.

    Attributes:
        key: where it came from: file, and row within it.
        group: examples of equal number are variants of one thing (`ExampleSource.groups`).
        codes: per modality, frames × codebooks.
        language: spoken language; "" if unknown.
    """

    key: str
    group: int
    codes: dict[str, Int[np.ndarray, "_frames _codebooks"]]
    language: str = ""

    @property
    def num_codes(self) -> int:
        return sum(codes.size for codes in self.codes.values())


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ShardEntry:
    """The manifest entry of a shard.

    Attributes:
        file: "SPLIT/SOURCE-PART-NUMBER.safetensors" inside the prepared folder.
    """

    file: str
    source: str
    split: str
    num_examples: int
    tokens: dict[str, int]
    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        name = _NAME.fullmatch(self.file)
        if name is None or (name["split"], name["source"]) != (self.split, self.source):
            raise UserError(f"{self.file[:200]!r} is not the name of a shard of {self.split}/{self.source}")
        unnamed = sorted(name for name in self.tokens if not name.isidentifier())
        if unnamed:
            raise UserError(f"{self.file}: tokens of {unnamed[0]!r}, which names no modality")
        counts = (self.num_examples - 1, self.num_bytes, *self.tokens.values())
        if min(counts) < 0 or max(counts) >= _MOST or not _SHA256.fullmatch(self.sha256):
            raise UserError(f"{self.file}: its counts or its SHA-256 are out of range")
        # A group takes eight bytes, a code two: what is counted can be held by whoever holds the file.
        if 8 * self.num_examples + 2 * sum(self.tokens.values()) > self.num_bytes:
            raise UserError(f"{self.file}: {self.num_bytes} bytes are too few for its counts")

    @property
    def part(self) -> int:
        """The input part that it was made from."""
        name = _NAME.fullmatch(self.file)
        assert name is not None
        return int(name["part"])

    def path(self, folder: Path) -> Path:
        """Return the path in the prepared `folder`. UserError: it is a link, which is not followed."""
        path = folder / self.file
        for place in (path.parent, path):
            if place.is_symlink():
                raise UserError(f"{place} is a link out of {folder}, perhaps: put there what it leads to")
        return path


def write_shard(
    folder: Path, file: str, *, source: str, split: str, examples: Sequence[Example]
) -> ShardEntry:
    """Write `examples`, which all have the same modalities, to `folder/file`; equal examples, equal bytes.

    Tensors: `groups`; `keys.values` (UTF-8 bytes) and `keys.offsets`, and `languages` likewise where one is
    known; `M.values` (codes × codebooks) and `M.offsets` per modality M: example i has the values from
    offset i up to offset i + 1. Codes below 65,536 take two bytes.
    """
    keys = [np.frombuffer(example.key.encode(), dtype=np.uint8) for example in examples]
    tensors = {"groups": np.array([example.group for example in examples], dtype=np.int64)}
    tensors |= {"keys.values": np.concatenate(keys), "keys.offsets": _offsets(keys)}
    if any(example.language for example in examples):
        languages = [np.frombuffer(example.language.encode(), dtype=np.uint8) for example in examples]
        tensors |= {"languages.values": np.concatenate(languages), "languages.offsets": _offsets(languages)}
    tokens: dict[str, int] = {}
    for modality in sorted(examples[0].codes):
        name = modality
        items = [example.codes[modality] for example in examples]
        values = np.concatenate(items)
        is_narrow = not values.size or int(values.max()) < _NARROW
        tensors[f"{name}.values"] = values.astype(np.uint16 if is_narrow else np.int32)
        tensors[f"{name}.offsets"] = _offsets(items)
        tokens[name] = int(values.size)
    config = {"source": source, "split": split}
    path = folder / file
    arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
    io.save_tensors(path, arrays, kind=KIND, config=config)
    return ShardEntry(
        file=file,
        source=source,
        split=split,
        num_examples=len(examples),
        tokens=tokens,
        num_bytes=path.stat().st_size,
        sha256=io.sha256(path),
    )


@final
class ShardedTokens:
    """The examples of many shards as one memory-mapped source, in shard order."""

    def __init__(self, name: str, shards: Sequence[tuple[Path, ShardEntry]]):
        """`shards`: the prepared folder and entry of each.

        Raises UserError or FileNotFoundError for a shard that is missing or of another size.
        """
        assert shards, f"source {name} has no shards"
        self._name = name
        self._shards = list(shards)
        self._starts = np.cumsum([0, *(entry.num_examples for _, entry in shards)])
        self._folders = list(dict.fromkeys(folder for folder, _ in shards))
        self._open = functools.lru_cache(maxsize=_OPEN_SHARDS)(self._map)
        for folder, entry in shards:
            check_size(folder, entry)
            if set(entry.tokens) != set(shards[0][1].tokens):
                raise UserError(f"{entry.path(folder)} has other modalities than {shards[0][1].file}")

    @property
    def name(self) -> str:
        return self._name

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def groups(self) -> Int[np.ndarray, "examples"]:
        """Group of each example. Equal keys in two folders are distinct."""
        parts = []
        for number, (folder, _) in enumerate(self._shards):
            place = self._folders.index(folder)
            groups = self._open(number).get_slice("groups")[:]
            parts.append(groups ^ rng.key(0, "folder", place) if place else groups)
        return np.concatenate(parts)

    def example(self, index: int) -> dict[str, Int[np.ndarray, "_frames _codebooks"]]:
        number, row = self._place(index)
        _, entry = self._shards[number]
        return {name: self._read(number, name, row).astype(np.int32) for name in entry.tokens}

    @property
    def num_codes(self) -> dict[str, Int[np.ndarray, "examples"]]:
        """Number of codes of each example, from the shards' offsets."""
        parts: dict[str, list[np.ndarray]] = {}
        for number, (_, entry) in enumerate(self._shards):
            file = self._open(number)
            for name in entry.tokens:
                frames = np.diff(file.get_slice(f"{name}.offsets")[:])
                _, num_codebooks = file.get_slice(f"{name}.values").get_shape()
                parts.setdefault(name, []).append(frames * num_codebooks)
        return {modality: np.concatenate(counts) for modality, counts in parts.items()}

    def key(self, index: int) -> str:
        """Return the origin of example `index`."""
        number, row = self._place(index)
        return self._read(number, "keys", row).tobytes().decode("utf-8", "replace")

    def language(self, index: int) -> str:
        """Return the language spoken in example `index`; "" if unknown."""
        number, row = self._place(index)
        if "languages.offsets" not in self._open(number).keys():  # noqa: SIM118  (no mapping)
            return ""
        return self._read(number, "languages", row).tobytes().decode("utf-8", "replace")

    def _place(self, index: int) -> tuple[int, int]:
        assert 0 <= index < len(self), f"example {index} of {len(self)}"
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def _read(self, number: int, name: str, row: int) -> np.ndarray:
        file = self._open(number)
        start, stop = file.get_slice(f"{name}.offsets")[row : row + 2]
        return file.get_slice(f"{name}.values")[int(start) : int(stop)]

    def _map(self, number: int) -> Any:
        return open_shard(*self._shards[number])


def open_shard(folder: Path, entry: ShardEntry) -> Any:
    """Map the tensors of a shard. UserError: they differ from its entry."""
    path = entry.path(folder)
    file = io.open_tensors(path, kind=KIND)
    check_layout(file, str(path), num_examples=entry.num_examples, tokens=entry.tokens)
    return file


def check_size(folder: Path, entry: ShardEntry) -> None:
    """Raise UserError if the shard is missing or of another size."""
    path = entry.path(folder)
    size = path.stat().st_size if path.is_file() else None
    if size != entry.num_bytes:
        found = "is missing" if size is None else f"has {size} bytes, not {entry.num_bytes}"
        raise UserError(
            f"{path} {found}: run `trimask prepare --verify {folder}`, then prepare again to restore it"
        )


def _offsets(items: Sequence[np.ndarray]) -> Int[np.ndarray, "boundaries"]:
    return np.concatenate([[0], np.cumsum([len(item) for item in items])]).astype(np.int64)
