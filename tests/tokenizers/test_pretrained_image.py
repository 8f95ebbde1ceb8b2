"""Public image tokenizers against their libraries, on small random models."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from public_models import save_emu3, save_vq
from trimask.tokenizers.pretrained import load_image_tokenizer
from trimask.tokenizers.pretrained.saved import find
from trimask.vocabulary.tokenizer import ImageCodec


@pytest.fixture(scope="module")
def images() -> Tensor:
    pixels = torch.nn.functional.interpolate(
        torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), size=32, mode="bilinear"
    )
    return 2 * pixels - 1


@pytest.fixture(scope="module")
def movq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vq(tmp_path_factory.mktemp("movq"), norm_type="spatial")


def reference(folder: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    """The library's own codes and reconstruction."""
    from diffusers.models.autoencoders.vq_model import VQModel

    model = VQModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ids = model.quantize(model.encode(images).latents)[2][2]
        return ids.view(len(images), -1, 1), model(images).sample


@pytest.mark.parametrize(
    "config",
    [
        {"norm_type": "spatial"},
        {},
        {"lookup_from_codebook": True, "vq_embed_dim": 8, "mid_block_add_attention": False},
    ],
    ids=["MoVQ", "VQGAN", "aMUSEd"],
)
def test_a_vqgan_is_the_librarys(config: dict[str, Any], images: Tensor, tmp_path: Path) -> None:
    codec = load_image_tokenizer(save_vq(tmp_path, **config), image_size=32)
    assert isinstance(codec, ImageCodec)
    geometry = (codec.image_size, codec.grid, codec.num_codebooks, codec.codebook_size)
    assert geometry == (32, (4, 4), 1, 32)
    # The pipelines of aMUSEd give its VQGAN pixels in [0, 1].
    has_unit_pixels = "lookup_from_codebook" in config
    ids, made = reference(tmp_path, (images + 1) / 2 if has_unit_pixels else images)
    codes = codec.encode(images)
    assert torch.equal(codes, ids) and len(codes.unique()) > 4
    expected = (2 * made - 1 if has_unit_pixels else made).clamp(-1, 1)
    decoded = codec.decode(codes)
    torch.testing.assert_close(decoded, expected, atol=1e-4, rtol=0)
    assert decoded.shape == images.shape and decoded.dtype == torch.float32


def test_emu3_is_the_librarys(images: Tensor, tmp_path: Path) -> None:
    from transformers import Emu3VQVAE

    codec = load_image_tokenizer(save_emu3(tmp_path), image_size=32)
    assert (codec.grid, codec.codebook_size, codec.num_codebooks) == ((16, 16), 32, 1)
    model = Emu3VQVAE.from_pretrained(tmp_path).eval()
    codes = codec.encode(images)
    with torch.no_grad():
        ids: Any = model.encode(images, image_sizes=torch.tensor([[32, 32]] * 3)).image_tokens  # a list
        made = model.decode(torch.stack(ids))
    assert torch.equal(codes, torch.stack(ids).flatten(1)[..., None]) and len(codes.unique()) > 4
    torch.testing.assert_close(codec.decode(codes), made.clamp(-1, 1))


def test_it_is_frozen_and_its_codes_can_be_trained_on(movq: Path, images: Tensor) -> None:
    codec = load_image_tokenizer(movq, image_size=32)
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())
    codes = codec.encode(images)
    assert codes.dtype == torch.int64 and not codes.is_inference()
    assert not codec.decode(codes).is_inference()


def test_parts_of_a_batch_are_the_batch(movq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trimask.tokenizers.pretrained import image

    codec = load_image_tokenizer(movq, image_size=16)
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = codec.encode(images)
    monkeypatch.setattr(image, "_PIXELS_AT_ONCE", 2 * 16**2)
    assert torch.equal(codec.encode(images), whole)
    torch.testing.assert_close(codec.decode(whole)[3:], codec.decode(whole[3:]))


def test_what_is_saved_needs_no_argument(movq: Path, images: Tensor, tmp_path: Path) -> None:
    codec = load_image_tokenizer(movq, image_size=32)
    codec.save(tmp_path / "image")
    again = load_image_tokenizer(tmp_path / "image")
    assert torch.equal(again.encode(images), codec.encode(images))
    again.save(tmp_path / "copy")
    for file in (tmp_path / "image").iterdir():
        content = file.read_bytes()
        assert (tmp_path / "copy" / file.name).read_bytes() == content and str(movq).encode() not in content
    with pytest.raises(ValueError, match="does not state its image size: give image_size"):
        load_image_tokenizer(movq)


def test_wrong_images_and_codes_are_named(movq: Path, images: Tensor) -> None:
    codec = load_image_tokenizer(movq, image_size=32)
    with pytest.raises(ValueError, match=r"\(batch, 3, 32, 32\): resize them first"):
        codec.encode(images[..., :16])
    with pytest.raises(ValueError, match=r"scale them to \[-1, 1\]"):
        codec.encode(images * 127)
    with pytest.raises(ValueError, match="codes of 9 cells; an image of this tokenizer has 16"):
        codec.decode(torch.zeros(1, 9, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"code 32 is out of range; .* are 0 … 31"):
        codec.decode(torch.full((1, 16, 1), 32))
    with pytest.raises(ValueError, match="2 codebooks in the last dimension; this tokenizer has 1"):
        codec.decode(torch.zeros(1, 16, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"image_size=36: .* cells of 8 x 8 pixels, choose a multiple of 8"):
        load_image_tokenizer(movq, image_size=36)


def test_a_wrong_folder_is_named(movq: Path, tmp_path: Path) -> None:
    def fails(match: str, folder: Path | str = tmp_path, **options: Any) -> None:
        with pytest.raises(ValueError, match=match) as raised:
            load_image_tokenizer(folder, image_size=32, **options)
        assert "\n" not in str(raised.value)

    fails("has no config.json: give the folder of a saved model")
    fails("is neither a folder nor a name on the hub", tmp_path / "none")
    fails("revision v1 does not apply to the folder", movq, revision="v1")
    config = tmp_path / "config.json"
    config.write_text("{")
    fails("config.json is not valid JSON")
    config.write_text("[]")
    fails("config.json is no JSON object")
    config.write_text(json.dumps({"model_type": "bert"}))
    fails("config.json is 'bert', not a supported image tokenizer: give a VQModel")
    config.write_text("{}")
    fails("'of no declared family'")
    config.write_text((movq / "config.json").read_text())
    fails("has no complete safetensors weights .* download or save it again")
    (weights,) = movq.glob("*.safetensors")
    content = weights.read_bytes()
    (tmp_path / weights.name).write_bytes(content[: len(content) // 2])
    fails("has no complete safetensors weights")
    (tmp_path / weights.name).write_bytes(content)
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "num_vq_embeddings": 16}))
    fails("has no complete safetensors weights for its config.json")
    config.write_text(json.dumps({**settings, "layers_per_block": 2}))
    fails("lacks [0-9]+ tensors of a VQModel")


def test_weights_other_than_safetensors_are_not_read(movq: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (weights,) = movq.glob("*.safetensors")
    (tmp_path / "config.json").write_text((movq / "config.json").read_text())
    torch.save(load_file(weights), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="has no complete safetensors weights"):
        load_image_tokenizer(tmp_path, image_size=32)


def test_a_hub_name_is_fetched_file_by_file(
    movq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    commit = "0123456789" * 4
    calls: list[tuple[Any, ...]] = []

    def fake_download(repository: str, *, revision: str | None, allow_patterns: list[str], **_: Any) -> str:
        calls.append((repository, revision, allow_patterns))
        root = tmp_path / "snapshots" / commit
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "movq").exists():
            (root / "movq").symlink_to(movq)
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake_download)
    codec = load_image_tokenizer("owner/model/movq", image_size=32, revision="main")
    weights = ["movq/*.safetensors", "movq/*.safetensors.index.json"]
    assert calls == [("owner/model", "main", ["movq/config.json"]), ("owner/model", commit, weights)]
    codec.save(tmp_path / "image")
    stored = json.loads((tmp_path / "image" / "trimask.json").read_text())
    assert stored == {"image_size": 32, "origin": {"name": "owner/model/movq", "revision": commit}}
    assert find(tmp_path / "image").origin == codec.origin

    def broken(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nand more advice")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(OSError, match=r"no folder owner/other, .* \(no route to host\): check the name"):
        load_image_tokenizer("owner/other", image_size=32)


def test_a_library_that_is_absent_or_too_old(movq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "diffusers", None)
        with pytest.raises(ImportError, match=r"needs diffusers, .*'trimask\[pretrained\]'"):
            load_image_tokenizer(movq, image_size=32)
    older = type(sys)("diffusers")
    older.__spec__ = diffusers.__spec__
    monkeypatch.setitem(sys.modules, "diffusers", older)
    with pytest.raises(ImportError, match=r"diffusers [0-9.]+ is too old .*cannot import name 'VQModel'"):
        load_image_tokenizer(movq, image_size=32)
