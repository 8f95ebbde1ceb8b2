"""Prepared data from code: for data that is tokenized already, or by a tokenizer of one's own."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from trimask import io
from trimask.data.shards import Example, ShardEntry, write_shard
from trimask.errors import UserError
from trimask.prepare.manifest import FORMAT_VERSION, TOKENIZERS, Manifest, count
from trimask.sources.options import PrepareOptions
from trimask.tokenizers.bundle import SHIPPED, copy_tokenizer, hashes

_OPTIONS = PrepareOptions()
Sources = Mapping[str, Mapping[str, Iterable[Example]]]
"""Split -> source -> its examples, which all have the same modalities."""


def write_prepared(
    folder: Path,
    sources: Sources,
    *,
    source: str,
    fingerprint: str,
    tokenizers: Path | Mapping[str, str] = SHIPPED,
    options: PrepareOptions = _OPTIONS,
) -> Manifest:
    """Write examples as prepared data, whole or not at all: what a run reads (`trimask train --data FOLDER`).

    Args:
        folder: does not exist yet, or is empty.
        source: where the data comes from, for people.
        fingerprint: of the data: equal data, equal fingerprints.
        tokenizers: folder of those that made the codes, which is copied, or their hashes alone where they are
            kept elsewhere; modalities that they do not give are declared by the run (`RunConfig.spaces`).
        options: the text window that passages were cut to, and how many codes a shard holds.

    Raises:
        UserError: the folder is in use, a source is empty, or its examples have different modalities.
    """
    with io.atomic_folder(folder) as temporary:
        if isinstance(tokenizers, Path):
            copy_tokenizer(tokenizers, temporary / TOKENIZERS)
            tokenizers = hashes(temporary / TOKENIZERS)
        shards = tuple(
            _write_source(temporary, split, name, examples, options.shard_codes)
            for split, of_split in sources.items()
            for name, examples in of_split.items()
        )
        entries = tuple(entry for part in shards for entry in part)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            source=source,
            licence=None,
            options=options,
            tokenizers=dict(tokenizers),
            input=fingerprint,
            num_parts=1,
            counts=count(entries),
            rejected={},
            shards=entries,
        )
        manifest.save(temporary)
    return manifest


def _write_source(
    folder: Path, split: str, source: str, examples: Iterable[Example], shard_codes: int
) -> list[ShardEntry]:
    entries = []
    for number, part in enumerate(_cut(examples, shard_codes)):
        modalities = {frozenset(example.codes) for example in part}
        if len(modalities) > 1:
            raise UserError(
                f"{split}/{source}: its examples have different modalities, give them two sources"
            )
        file = f"{split}/{source}-000000-{number:03d}.safetensors"
        entries.append(write_shard(folder, file, source=source, split=split, examples=part))
    if not entries:
        raise UserError(f"{split}/{source} is empty: give at least one example, or leave it out")
    return entries


def _cut(examples: Iterable[Example], shard_codes: int) -> Iterator[list[Example]]:
    part: list[Example] = []
    size = 0
    for example in examples:
        part.append(example)
        size += example.num_codes
        if size >= shard_codes:
            yield part
            part, size = [], 0
    if part:
        yield part
