"""The three tokenizers of a model, kept in one folder.

The folder holds `text.json`; `image.safetensors` (ours) or `image/` (a public one, as its library saves it);
`speech.safetensors` or `speech/`.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from trimask import io, seals
from trimask.config import to_dict
from trimask.errors import UserError
from trimask.tokenizers.image import ImageTokenizer
from trimask.tokenizers.pretrained import (
    PretrainedImageTokenizer,
    PretrainedSpeechTokenizer,
    load_image_tokenizer,
    load_speech_tokenizer,
)
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.tokenizers.text import TextTokenizer
from trimask.vocabulary.layout import CodeSpace
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec, TextCodec

SHIPPED = Path(__file__).parents[1] / "assets" / "tokenizers"
FINE = SHIPPED.with_name("tokenizers_fine")
"""Larger tokenizers with more codes, which also ship with the package."""
_TEXT, _IMAGE, _SPEECH = "text.json", "image", "speech"
_OURS = ".safetensors"


@final
@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """Text, image and speech tokenizers. They determine the vocabulary, that is, the meaning of ids.

    Attributes:
        hashes: `hashes` of the folder that they were loaded from; empty if they were not loaded.
    """

    text: TextCodec
    image: ImageCodec
    speech: SpeechCodec
    hashes: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def load(cls, folder: Path = SHIPPED, *, expected: Mapping[str, str] | None = None) -> "Tokenizers":
        """Load the three tokenizers in `folder`; by default those that ship with the package.

        Args:
            expected: the hashes to compare with, as from `hashes`; by default those in the folder's index.

        Raises:
            FileNotFoundError, UserError: a file is missing or damaged; the message names it.
            ImportError: the library of a public tokenizer is not installed or too old.
        """
        found = check_bundle(folder, expected)
        return cls(
            text=TextTokenizer.load(folder / _TEXT),
            image=_load_image(_part(folder, _IMAGE)),
            speech=_load_speech(_part(folder, _SPEECH)),
            hashes=found,
        )

    def save(self, folder: Path) -> None:
        """Write a folder that `load` can read; see `assemble`."""
        assemble(folder, text=self.text, image=self.image, speech=self.speech)

    @property
    def spaces(self) -> tuple[CodeSpace, ...]:
        """The code spaces of text, images and speech, as their tokenizers define them."""
        return (
            CodeSpace(name="text", num_codebooks=1, codebook_size=self.text.vocabulary_size, has_end=True),
            CodeSpace(
                name="image",
                num_codebooks=self.image.num_codebooks,
                codebook_size=self.image.codebook_size,
                has_end=False,
                grid=self.image.grid,
            ),
            CodeSpace(
                name="speech",
                num_codebooks=self.speech.num_codebooks,
                codebook_size=self.speech.codebook_size,
                has_end=True,
                frame_rate=float(self.speech.frame_rate),
            ),
        )


def assemble(
    out: Path,
    *,
    text: TextCodec | Path = SHIPPED / _TEXT,
    image: ImageCodec | Path = SHIPPED / f"{_IMAGE}{_OURS}",
    speech: SpeechCodec | Path = SHIPPED / f"{_SPEECH}{_OURS}",
) -> None:
    """Write a tokenizer folder, atomically.

    Args:
        out: must not exist, or be empty.
        text, image, speech: a tokenizer, or its file or folder in another tokenizer folder, which is copied
            byte by byte.

    Raises:
        FileNotFoundError, UserError: `out` is not empty, or a tokenizer cannot be read or saved.
    """
    configs: list[Any] = []
    for path, load in ((text, TextTokenizer.load), (image, _load_image), (speech, _load_speech)):
        if isinstance(path, Path):
            found = load(path)  # raises before anything is copied
            if isinstance(found, ImageTokenizer | SpeechTokenizer):
                configs.append(to_dict(found.config))
    with io.atomic_folder(out) as folder:
        io.keep_modules(configs, folder)
        for name, part in ((_TEXT, text), (_IMAGE, image), (_SPEECH, speech)):
            if isinstance(part, TextTokenizer):
                part.save(folder / name)
            elif isinstance(part, ImageTokenizer | SpeechTokenizer):
                part.save(folder / f"{name}{_OURS}")
            elif isinstance(part, PretrainedImageTokenizer | PretrainedSpeechTokenizer):
                part.save(folder / name)
            elif isinstance(part, Path):
                copy_tokenizer(part, folder / (name if part.is_dir() or name == _TEXT else f"{name}{_OURS}"))
            else:
                raise UserError(f"a {type(part).__name__} cannot be saved: give a tokenizer of this package")
        seals.write_index(folder, hashes(folder))


def check_bundle(folder: Path, expected: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the hashes of the tokenizers in `folder` after comparing them with `expected`, or the index.

    Raises:
        FileNotFoundError, UserError: a file is missing or damaged; the message names it.
    """
    for path in parts(folder).values():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    expected = seals.read_index(folder) if expected is None else expected
    found = hashes(folder)
    if expected is None:
        seals.warn_unsealed(folder)
        return found
    wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    if wrong:
        raise UserError(
            f"{folder / wrong[0]} is damaged, it has changed since it was written: copy {folder} again from "
            "its source"
        )
    return found


def parts(folder: Path) -> dict[str, Path]:
    """Return the paths of the `text`, `image` and `speech` tokenizers in a folder.

    Raises:
        UserError: the folder has two tokenizers for one modality.
    """
    return {"text": folder / _TEXT, "image": _part(folder, _IMAGE), "speech": _part(folder, _SPEECH)}


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's file or folder, or a folder of tokenizers, atomically, without model cards."""
    if source.is_file():
        with io.atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
        return
    with io.atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("*.md", ".*"), dirs_exist_ok=True)


def hashes(folder: Path = SHIPPED) -> dict[str, str]:
    """Return the SHA-256 of each tokenizer by name; prepared data and runs store them.

    For a tokenizer that is a folder, this is the hash of the lines `hash  path` of its files, sorted by path.
    """
    found = {}
    for path in parts(folder).values():
        if not path.is_dir():
            found[path.name] = io.sha256(path)
            continue
        files = sorted(
            file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file() and _is_ours(file)
        )
        lines = "".join(f"{io.sha256(path / file)}  {file}\n" for file in files)
        found[f"{path.name}/"] = hashlib.sha256(lines.encode()).hexdigest()
    return found


def _is_ours(file: Path) -> bool:
    """Return whether the file is part of a tokenizer: not a model card, not hidden (see `copy_tokenizer`)."""
    return file.suffix != ".md" and not file.name.startswith(".")


def _part(folder: Path, name: str) -> Path:
    file, subfolder = folder / f"{name}{_OURS}", folder / name
    if file.exists() and subfolder.is_dir():
        raise UserError(f"{folder} has both {file.name} and {name}/: remove one of them")
    return subfolder if subfolder.is_dir() else file


def _load_image(path: Path) -> ImageCodec:
    return load_image_tokenizer(path) if path.is_dir() else ImageTokenizer.load(path)


def _load_speech(path: Path) -> SpeechCodec:
    return load_speech_tokenizer(path) if path.is_dir() else SpeechTokenizer.load(path)
