"""Tiny tokenizers with an exact inverse, a tiny vocabulary, and a small denoiser that is not uniform."""

from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from trimask import rng
from trimask.generation.generate import Generator
from trimask.generation.length import LengthPolicy
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary

_ALPHABET = "abcdefghijklmnopqrstuvwxyz :.,'"


class FakeText:
    """One id per character of a small alphabet; merged text has every id raised by its length."""

    vocabulary_size = 2 * len(_ALPHABET)

    def encode(self, text: str, *, is_spelled: bool = False) -> list[int]:
        shift = 0 if is_spelled else len(_ALPHABET)
        return [_ALPHABET.index(letter) + shift for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(_ALPHABET[i % len(_ALPHABET)] for i in ids)


class FakeImage:
    """8 × 8 pixels, 2 × 2 cells. The coarse code is a cell's green and blue, the fine one its red."""

    image_size = 8
    grid = (2, 2)
    num_codebooks = 2
    codebook_size = 5

    def encode(self, images: Tensor) -> Tensor:
        cells = images.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2)).flatten(2)
        grey = ((cells[:, 1] + 1) * 2).round().long()
        red = ((cells[:, 0] + 1) * 2).round().long()
        return torch.stack([grey, red], dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        levels = codes.float() / 2 - 1
        channels = torch.stack([levels[..., 1], levels[..., 0], levels[..., 0]], dim=1)
        return channels.unflatten(2, (2, 2)).repeat_interleave(4, 2).repeat_interleave(4, 3)


class FakeSpeech:
    """Four samples a frame; the two codes are the signs of its halves."""

    sample_rate = 100
    frame_rate = 25.0
    num_codebooks = 2
    codebook_size = 2

    def encode(self, waveform: Tensor) -> Tensor:
        frames = waveform[: len(waveform) // 4 * 4].view(-1, 2, 2).mean(2)
        return (frames > 0).long()

    def decode(self, codes: Tensor) -> Tensor:
        return (codes.float() - 0.5).repeat_interleave(2, 1).flatten()


def tiny_vocabulary() -> Vocabulary:
    return Vocabulary(
        spaces=(
            CodeSpace(name="text", num_codebooks=1, codebook_size=FakeText.vocabulary_size, has_end=True),
            CodeSpace(name="image", num_codebooks=2, codebook_size=5, has_end=False, grid=(2, 2)),
            CodeSpace(name="speech", num_codebooks=2, codebook_size=2, has_end=True),
        ),
        layouts={"speech": Parallel()},
    )


def random_denoiser(seed: int = 0) -> Denoiser:
    """Two blocks with a random unembedding: its predictions differ from slot to slot."""
    denoiser = Denoiser(DenoiserConfig(width=32, depth=2, num_heads=2), tiny_vocabulary())
    denoiser.initialize(seed)
    draw = rng.generator(seed, "unembedding").standard_normal((denoiser.vocabulary.size, 32), dtype="float32")
    with torch.no_grad():
        denoiser.unembedding.weight.copy_(torch.from_numpy(draw) * 0.5)
    return denoiser.eval().requires_grad_(False)


def tiny_generator(seed: int = 0, **options: object) -> Generator:
    given: dict[str, Any] = {"text": FakeText(), "image": FakeImage(), "speech": FakeSpeech()} | options
    lengths = LengthPolicy(caption_length=6, text_length=12, spoken_characters=5)
    return Generator(random_denoiser(seed), lengths=lengths, **given)


def picture() -> PIL.Image.Image:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4] = 255
    return PIL.Image.fromarray(pixels)


def hum(num_frames: int = 6) -> np.ndarray:
    return np.sin(np.arange(4 * num_frames)).astype(np.float32)
