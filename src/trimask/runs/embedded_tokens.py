"""The embedded data as prepared data: encoded once into a folder, and recognised there by a fingerprint."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trimask import config as configuration
from trimask import io
from trimask.data.selection import QuickstartData
from trimask.data.shards import ShardedTokens
from trimask.errors import UserError
from trimask.prepare.manifest import MANIFEST, Manifest, find_damaged_shards, load_split
from trimask.prepare.write import write_prepared
from trimask.runs.embedded import Split, encode
from trimask.sources.options import PrepareOptions
from trimask.tokenizers.bundle import Tokenizers

logger = logging.getLogger(__name__)

VERSION = 3
"""Of how the data is encoded: 1 lost what sentences had beyond a window, 2 had a file format of its own."""
_SPLITS: tuple[Split, ...] = ("train", "validation")  # that a run reads
_SOURCE = "the embedded data"
_NO_READINGS = "none"


def load_or_encode(
    data: QuickstartData,
    tokenizers: Tokenizers,
    folder: Path,
    *,
    report: Callable[[str], None] = lambda message: None,
) -> None:
    """Make sure that `folder` holds the training and validation splits of `data`: a resumed run reads what
    its first start encoded.

    What is damaged there, or is something else, is set aside and encoded again. For the process that writes
    the folder alone.
    """
    assert tokenizers.hashes, "what is kept is recognised by its tokenizers: load them from a folder"
    if folder.exists() and any(folder.iterdir()):
        try:
            check_encoded(data, tokenizers.hashes, folder)
            return
        except (ValueError, FileNotFoundError) as error:
            aside = io.set_aside(folder)
            logger.warning("%s; it is encoded again (what was there is now %s)", error, aside)
    write_encoded(data, tokenizers, folder, _SPLITS, report=report)


def write_encoded(
    data: QuickstartData,
    tokenizers: Tokenizers,
    folder: Path,
    splits: Sequence[Split],
    *,
    report: Callable[[str], None] = lambda message: None,
) -> None:
    """Encode `splits` of `data` into a prepared folder, whole or not at all. Tokenizers are named by their
    hashes, not copied: a run keeps them beside it.
    """
    write_prepared(
        folder,
        {split: encode(data, tokenizers, split, report=report) for split in splits},
        source=_SOURCE,
        fingerprint=fingerprint(data, tokenizers.hashes),
        tokenizers=tokenizers.hashes,
        options=PrepareOptions(text_window=data.text_window),
    )


def load_encoded(folder: Path, split: Split) -> dict[str, ShardedTokens]:
    """The sources of a split that `write_encoded` has left in `folder`."""
    return load_split((folder,), split)


def check_encoded(data: QuickstartData, tokenizers: Mapping[str, str], folder: Path) -> None:
    """Whether `folder` holds what `load_or_encode` would encode there, byte for byte.

    Further readings that are no longer there are taken to be those that were encoded.

    Args:
        tokenizers: their hashes.

    Raises:
        UserError, FileNotFoundError: a file is damaged or gone, or was made of other data, by other
            tokenizers or another version.
    """
    if not (folder / MANIFEST).exists():
        raise UserError(f"{folder} has no {MANIFEST}")
    manifest = Manifest.load(folder)
    choice, _, readings = manifest.input.partition("+")
    if choice != _choice(data, tokenizers):
        raise UserError(f"{folder} holds other data, or was encoded by other tokenizers or another version")
    if readings != _readings(data) and (data.readings is None or data.readings.is_dir()):
        raise UserError(f"{folder} was encoded from other readings (now: {data.readings or 'embedded'})")
    damaged = find_damaged_shards(folder, manifest.shards)
    if damaged:
        raise UserError(f"{folder / damaged[0]} is damaged or gone")


def fingerprint(data: QuickstartData, tokenizers: Mapping[str, str]) -> str:
    """Of all that decides the codes: the choice of data, the tokenizers (their hashes), the version of the
    encoding, and the content of the folder of further readings, wherever it lies.
    """
    return f"{_choice(data, tokenizers)}+{_readings(data)}"


def _choice(data: QuickstartData, tokenizers: Mapping[str, str]) -> str:
    decides = {
        "version": VERSION,
        "data": configuration.to_dict(replace(data, readings=None)),
        "tokenizers": dict(tokenizers),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _readings(data: QuickstartData) -> str:
    """The hash of a line `hash  path` for each file of the folder, in order of their paths."""
    if data.readings is None:
        return _NO_READINGS
    files = sorted(path for path in data.readings.rglob("*") if path.is_file())
    lines = "".join(f"{io.sha256(path)}  {path.relative_to(data.readings).as_posix()}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
