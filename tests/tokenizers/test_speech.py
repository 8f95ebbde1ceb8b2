"""The speech tokenizer: geometry, codes, determinism, files, errors."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

import trimask
from trimask.datasets.quickstart.tables import read_table
from trimask.tokenizers.quantizer import ResidualVectorConfig
from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
from trimask.tokenizers.speech.autoencoder import AutoencoderConfig
from trimask.tokenizers.speech.features import SpeechFeaturesConfig
from trimask.tokenizers.speech.vocoder import VocoderConfig

SMALL = SpeechTokenizerConfig(
    autoencoder=AutoencoderConfig(
        quantizer=ResidualVectorConfig(dim=16, codebook_size=8, num_codebooks=3),
        decoder_width=16,
        decoder_depth=1,
        refiner_width=8,
        refiner_depth=1,
    ),
    vocoder=VocoderConfig(width=16, depth=1),
)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = SpeechTokenizer(SMALL)
    for parameter in made.parameters():  # nothing may hang on the zeros that training starts from
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made.eval()


def test_geometry(tokenizer: SpeechTokenizer):
    assert (tokenizer.sample_rate, tokenizer.frame_rate) == (16_000, 25)
    assert (tokenizer.num_codebooks, tokenizer.codebook_size) == (3, 8)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16_000, 16_001])
def test_frames_are_the_ceiling_and_come_back_whole(tokenizer: SpeechTokenizer, samples: int):
    codes = tokenizer.encode(noise(samples))
    frames = -(-samples * 25 // 16_000)
    assert codes.shape == (frames, 3)
    assert codes.dtype == torch.int64
    assert frames == tokenizer.num_frames(samples)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 8
    waveform = tokenizer.decode(codes)
    assert waveform.shape == (frames * 640,)
    assert bool(waveform.isfinite().all())
    assert float(waveform.abs().max()) <= 1.0


def test_decoding_draws_nothing(tokenizer: SpeechTokenizer):
    codes = tokenizer.encode(noise(8000))
    first = tokenizer.decode(codes)
    torch.rand(3)
    assert torch.equal(first, tokenizer.decode(codes))


def test_any_codes_can_be_decoded(tokenizer: SpeechTokenizer):
    codes = torch.randint(0, 8, (40, 3), generator=torch.Generator().manual_seed(0))
    assert bool(tokenizer.decode(codes).isfinite().all())


def test_what_follows_far_away_does_not_matter(tokenizer: SpeechTokenizer):
    start = noise(32_000)
    a = tokenizer.encode(torch.cat([start, noise(6400, seed=1)]))
    b = tokenizer.encode(torch.cat([start, noise(6400, seed=2)]))
    assert torch.equal(a[:40], b[:40])


def test_saved_and_loaded_it_is_the_same(tokenizer: SpeechTokenizer, tmp_path: Path):
    path = tmp_path / "speech.safetensors"
    tokenizer.save(path)
    loaded = SpeechTokenizer.load(path)
    assert loaded.config == tokenizer.config
    codes = tokenizer.encode(noise(5000))
    assert torch.equal(codes, loaded.encode(noise(5000)))
    assert torch.equal(tokenizer.decode(codes), loaded.decode(codes))


def test_errors_name_the_value_and_the_mend(tokenizer: SpeechTokenizer, tmp_path: Path):
    with pytest.raises(ValueError, match="0 samples"):
        tokenizer.encode(torch.zeros(0))
    broken = noise(2000)
    broken[7] = torch.nan
    with pytest.raises(ValueError, match=r"sample 7 .* nan"):
        tokenizer.encode(broken)
    with pytest.raises(ValueError, match="0 frames"):
        tokenizer.decode(torch.zeros(0, 3, dtype=torch.int64))
    for wrong in (8, -1):
        with pytest.raises(ValueError, match=f"{wrong}.*out of range"):
            tokenizer.decode(torch.full((4, 3), wrong))
    with pytest.raises(ValueError, match="codebooks"):
        tokenizer.decode(torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="divide"):
        SpeechTokenizerConfig(features=SpeechFeaturesConfig(hop=170))
    with pytest.raises(FileNotFoundError):
        SpeechTokenizer.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpeechFeaturesConfig(hop=0),
        lambda: SpeechFeaturesConfig(num_mels=-1),
        lambda: SpeechFeaturesConfig(window=1),
        lambda: SpeechFeaturesConfig(window=2048),
        lambda: SpeechFeaturesConfig(fft_size=1023),
        lambda: SpeechFeaturesConfig(lowest_pitch=500.0),
        lambda: SpeechFeaturesConfig(highest_pitch=8_000.0),
        lambda: AutoencoderConfig(frames_per_code=0),
        lambda: AutoencoderConfig(decoder_depth=-1),
        lambda: VocoderConfig(width=0),
        lambda: VocoderConfig(kernel=4),
    ],
)
def test_sizes_that_nothing_can_be_built_of_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(trimask.UserError, match="use "):
        make()


def test_shipped_weights_speak_a_clip_they_never_saw():
    clip = next(row for row in read_table("speech", "test") if row["kind"] == "sentence")
    waveform = torch.from_numpy(soundfile.read(io.BytesIO(clip["audio"]), dtype="float32")[0])
    shipped = SpeechTokenizer.load(
        Path(trimask.__file__).parent / "assets" / "tokenizers" / "speech.safetensors"
    )
    assert (shipped.frame_rate, shipped.num_codebooks, shipped.codebook_size) == (25, 4, 512)
    made = shipped.decode(shipped.encode(waveform))[: len(waveform)]
    real, again = shipped.features(torch.stack([waveform, made]))[..., :-2]
    distance = float((real - again).abs().mean())
    mean_spectrum = float((real - real.mean(0)).abs().mean())
    # 0.2 nats when it was trained; a decoder that says the clip's mean spectrum throughout is at 1.5.
    assert distance < 0.3 < 0.5 * mean_spectrum
