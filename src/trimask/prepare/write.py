"""Write prepared data from Python, for data that is already tokenized or needs a custom tokenizer."""

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
"""Split -> source -> examples; all examples of a source have the same modalities."""


def write_prepared(
    folder: Path,
    sources: Sources,
    *,
    source: str,
    fingerprint: str,
    tokenizers: Path | Mapping[str, str] = SHIPPED,
    options: PrepareOptions = _OPTIONS,
) -> Manifest:
    """Write examples as a prepared folder, atomically. Runs read it with `trimask train --data FOLDER`.

    Args:
        folder: must not exist, or be empty.
        sources: split -> source -> examples.
        source: a description of the data's origin, for readers of the manifest.
        fingerprint: identifies the data: equal data must have equal fingerprints.
        tokenizers: the folder of the tokenizers that made the codes, which is copied, or only their hashes if
            they are kept elsewhere. The run declares modalities that they do not cover (`RunConfig.spaces`).
        options: `text_window` must be the length that passages were cut to; `shard_codes` limits each shard.

    Raises:
        UserError: the folder is not empty, a source is empty, or its examples have different modalities.
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
                f"{split}/{source}: its examples have different modalities: split them into two sources"
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
