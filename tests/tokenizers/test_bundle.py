"""Tokenizer folders: ours, public ones, and both; their hashes and their vocabulary."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.fakes import FakeSpeech
from public_models import save_dac, save_vq
from trimask import io
from trimask.tokenizers.bundle import SHIPPED, Tokenizers, assemble, copy_tokenizer, hashes, parts
from trimask.tokenizers.pretrained import load_image_tokenizer, load_speech_tokenizer


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a public image tokenizer, a public speech tokenizer, and our text tokenizer."""
    folder = tmp_path_factory.mktemp("public")
    image = load_image_tokenizer(save_vq(folder / "vq"), image_size=16)
    speech = load_speech_tokenizer(save_dac(folder / "dac"), num_codebooks=2)
    assemble(folder / "tokenizers", image=image, speech=speech)
    return folder / "tokenizers"


def test_the_shipped_files_are_copied_byte_by_byte(tmp_path: Path) -> None:
    assemble(tmp_path / "new")
    names = ["image.safetensors", "sha256.json", "speech.safetensors", "text.json"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert hashes(tmp_path / "new") == hashes() == {name: io.sha256(SHIPPED / name) for name in hashes()}


def test_public_tokenizers_load_without_further_argument(public: Path) -> None:
    names = sorted(path.relative_to(public).as_posix() for path in public.rglob("*"))
    assert names == [
        "image",
        "image/config.json",
        "image/diffusion_pytorch_model.safetensors",
        "image/trimask.json",
        "sha256.json",
        "speech",
        "speech/config.json",
        "speech/model.safetensors",
        "speech/trimask.json",
        "text.json",
    ]
    tokenizers = Tokenizers.load(public)
    _, image, speech = tokenizers.spaces
    assert (image.grid, image.num_codebooks, image.codebook_size, image.has_end) == ((2, 2), 1, 32, False)
    assert (speech.num_codebooks, speech.codebook_size, speech.has_end) == (2, 16, True)
    codes = tokenizers.image.encode(torch.zeros(2, 3, 16, 16))
    assert codes.shape == (2, 4, 1) and tokenizers.image.decode(codes).shape == (2, 3, 16, 16)


def test_what_is_copied_or_saved_again_has_the_same_hash(public: Path, tmp_path: Path) -> None:
    copy_tokenizer(public, tmp_path / "copy")
    Tokenizers.load(public).save(tmp_path / "saved")
    found: dict[str, Any] = dict(parts(public))
    assemble(tmp_path / "parts", **found)
    for name in ("copy", "saved", "parts"):
        assert hashes(tmp_path / name) == hashes(public)
    assert set(hashes(public)) == {"text.json", "image/", "speech/"}


def test_a_hash_tells_contents_and_names(public: Path, tmp_path: Path) -> None:
    copy_tokenizer(public, tmp_path / "copy")
    before = hashes(public)
    (tmp_path / "copy" / "image" / "README.md").write_text("a card is no part of a tokenizer")
    assert hashes(tmp_path / "copy") == before
    options = tmp_path / "copy" / "speech" / "trimask.json"
    io.write_json(options, io.read_json(options) | {"num_codebooks": 1})
    after = hashes(tmp_path / "copy")
    assert after["speech/"] != before["speech/"] and after["image/"] == before["image/"]
    options.rename(options.with_name("other.json"))
    assert hashes(tmp_path / "copy")["speech/"] not in (before["speech/"], after["speech/"])


def test_nothing_is_left_of_what_fails(public: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("")
    with pytest.raises(ValueError, match="exists and is not an empty folder: choose another name"):
        assemble(tmp_path / "used")
    with pytest.raises(ValueError, match="a FakeSpeech cannot be saved"):
        assemble(tmp_path / "new", speech=FakeSpeech())
    with pytest.raises(FileNotFoundError, match=r"none.safetensors does not exist"):
        assemble(tmp_path / "new", image=tmp_path / "none.safetensors")
    shutil.copytree(public / "image", tmp_path / "cut")
    (tmp_path / "cut" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="no complete safetensors weights"):
        assemble(tmp_path / "new", image=tmp_path / "cut")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "used"]


def test_a_tokenizer_that_is_there_twice(public: Path, tmp_path: Path) -> None:
    copy_tokenizer(public, tmp_path / "both")
    shutil.copy(SHIPPED / "image.safetensors", tmp_path / "both")
    for read in (Tokenizers.load, hashes):
        with pytest.raises(ValueError, match=r"both image.safetensors and image/: remove one"):
            read(tmp_path / "both")
