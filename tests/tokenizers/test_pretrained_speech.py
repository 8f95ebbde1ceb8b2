"""Public speech tokenizers against their library, on small random models."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from public_models import save_dac, save_encodec, save_higgs, save_mimi
from trimask.tokenizers.pretrained import load_speech_tokenizer
from trimask.tokenizers.pretrained.higgs import higgs_class, resample
from trimask.vocabulary.tokenizer import SpeechCodec

# Name, how it is made, sample rate, samples per frame, codebooks.
FAMILIES: list[tuple[str, Callable[[Path], Path], int, int, int]] = [
    ("dac", save_dac, 8000, 40, 3),
    ("encodec", save_encodec, 8000, 40, 4),
    ("mimi", save_mimi, 8000, 80, 4),
    ("higgs_audio_v2_tokenizer", save_higgs, 24_000, 960, 4),
]
each_family = pytest.mark.parametrize(
    ("family", "sample_rate", "hop", "num_codebooks"), [(f, r, h, n) for f, _, r, h, n in FAMILIES]
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make(tmp_path_factory.mktemp(family)) for family, make, *_ in FAMILIES}


def waveform(num_samples: int) -> Tensor:
    return 0.3 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)


def reference(family: str, folder: Path, samples: Tensor) -> tuple[Tensor, Tensor]:
    """The library's own codes (frames, codebooks) and reconstruction of a waveform."""
    from transformers import DacModel, EncodecModel, MimiModel

    x = samples[None, None]
    with torch.no_grad():
        if family == "dac":
            out = DacModel.from_pretrained(folder).eval()(x)
        elif family == "encodec":
            out = EncodecModel.from_pretrained(folder).eval()(x, bandwidth=3.2)
            return out.audio_codes[0, 0].T, out.audio_values.flatten()
        elif family == "mimi":
            out = MimiModel.from_pretrained(folder).eval()(x)
        else:
            out = higgs_class().from_pretrained(folder).eval()(x)
    return out.audio_codes[0].T, out.audio_values.flatten()


@each_family
def test_codes_and_waveforms_are_the_librarys(
    family: str, sample_rate: int, hop: int, num_codebooks: int, folders: dict[str, Path]
) -> None:
    codec = load_speech_tokenizer(folders[family])
    assert isinstance(codec, SpeechCodec) and codec.family == family
    assert (codec.sample_rate, codec.samples_per_frame) == (sample_rate, hop)
    assert (codec.num_codebooks, codec.codebook_size) == (num_codebooks, 16)
    assert codec.frame_rate == sample_rate / hop
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())
    samples = waveform(12 * hop)
    ids, made = reference(family, folders[family], samples)
    codes = codec.encode(samples, sample_rate=sample_rate)
    assert torch.equal(codes, ids) and codes.dtype == torch.int64 and len(codes.unique(dim=0)) > 2
    decoded = codec.decode(codes)
    assert decoded.shape == samples.shape and not codes.is_inference() and not decoded.is_inference()
    torch.testing.assert_close(decoded[: len(made)], made.clamp(-1, 1), atol=1e-5, rtol=0)
    # What the odd strides of the library's DAC do not reach is silence.
    assert len(decoded) - len(made) in ((4, 8) if family == "dac" else (0,))
    assert not decoded[len(made) :].any()


@each_family
def test_frames_are_the_ceiling_and_come_back_whole(
    family: str, sample_rate: int, hop: int, num_codebooks: int, folders: dict[str, Path]
) -> None:
    codec = load_speech_tokenizer(folders[family])
    for num_samples in (1, hop - 1, hop, hop + 1, 3 * hop + hop // 2):
        codes = codec.encode(waveform(num_samples))
        assert codes.shape == (-(-num_samples // hop), num_codebooks)
        assert len(codec.decode(codes)) == len(codes) * hop
    # A last frame that is not full is filled as the library fills it.
    samples = waveform(3 * hop + hop // 2)
    fills_itself = family in ("encodec", "mimi")
    whole = samples if fills_itself else torch.nn.functional.pad(samples, (0, hop - hop // 2))
    assert torch.equal(codec.encode(samples), reference(family, folders[family], whole)[0])


@each_family
def test_the_first_codebooks_are_a_tokenizer_too(
    family: str, sample_rate: int, hop: int, num_codebooks: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    codec = load_speech_tokenizer(folders[family])
    samples = waveform(6 * hop)
    codes = codec.encode(samples)
    for number in (1, num_codebooks - 1):
        coarse = load_speech_tokenizer(folders[family], num_codebooks=number)
        assert coarse.num_codebooks == number and torch.equal(coarse.encode(samples), codes[:, :number])
        assert coarse.decode(codes[:, :number]).shape == samples.shape
    coarse.save(tmp_path / "speech")
    again = load_speech_tokenizer(tmp_path / "speech")
    assert again.num_codebooks == number
    torch.testing.assert_close(again.decode(codes[:, :number]), coarse.decode(codes[:, :number]))
    for wrong in (0, num_codebooks + 1):
        with pytest.raises(
            ValueError, match=f"num_codebooks={wrong}: this codec has {num_codebooks}, choose"
        ):
            load_speech_tokenizer(folders[family], num_codebooks=wrong)


def test_a_prefix_of_dac_is_the_librarys(folders: dict[str, Path]) -> None:
    from transformers import DacModel

    samples = waveform(400)
    with torch.no_grad():
        made = DacModel.from_pretrained(folders["dac"]).eval()(samples[None, None], n_quantizers=2)
    codec = load_speech_tokenizer(folders["dac"], num_codebooks=2)
    decoded = codec.decode(made.audio_codes[0].T)
    assert torch.equal(codec.encode(samples), made.audio_codes[0].T)
    torch.testing.assert_close(decoded[: made.audio_values.shape[-1]], made.audio_values[0].clamp(-1, 1))


def test_wrong_waveforms_and_codes_are_named(folders: dict[str, Path]) -> None:
    codec = load_speech_tokenizer(folders["dac"])
    with pytest.raises(ValueError, match="has 16000 samples per second, this codec takes 8000: resample"):
        codec.encode(waveform(80), sample_rate=16_000)
    with pytest.raises(ValueError, match=r"shape \(2, 80\): this codec takes one channel, .* average"):
        codec.encode(waveform(160).view(2, 80))
    with pytest.raises(ValueError, match="0 samples"):
        codec.encode(waveform(0))
    with pytest.raises(ValueError, match="sample 1 of the waveform is nan"):
        codec.encode(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="0 frames"):
        codec.decode(torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 codebooks in the last dimension; this tokenizer has 3"):
        codec.decode(torch.zeros(5, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"code 16 is out of range; .* are 0 … 15"):
        codec.decode(torch.full((5, 3), 16))


def test_what_cannot_be_a_mono_tokenizer_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    stereo = save_encodec(tmp_path / "stereo", audio_channels=2)
    with pytest.raises(ValueError, match="has 2 channels: give a mono one"):
        load_speech_tokenizer(stereo)
    loud = save_encodec(tmp_path / "loud", normalize=True)
    with pytest.raises(ValueError, match="stores loudness in addition to codes"):
        load_speech_tokenizer(loud)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    with pytest.raises(ValueError, match="'wav2vec2', not a supported speech tokenizer: give a dac"):
        load_speech_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text((folders["mimi"] / "config.json").read_text())
    weights = (folders["mimi"] / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"no complete safetensors weights .* download or save it again"):
        load_speech_tokenizer(tmp_path)


def test_a_library_that_is_absent(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ImportError, match=r"needs transformers, which is not installed: .*trimask\[pretrained\]"
    ):
        load_speech_tokenizer(folders["dac"])


@pytest.mark.parametrize(("before", "after"), [(24_000, 16_000), (16_000, 24_000), (10, 7), (5, 5)])
def test_resampling_is_its_formula(before: int, after: int) -> None:
    samples = waveform(60).double()
    cutoff = 0.99 * min(before, after)
    expected = []
    for j in range(-(-60 * after // before)):
        # The sum over all samples; those further than 6 zeros of the sinc have no weight.
        time = (torch.arange(60.0, dtype=torch.float64) / before - j / after) * cutoff
        window = torch.cos(time * torch.pi / 12) ** 2 * (time.abs() < 6)
        expected.append((samples * torch.sinc(time) * window).sum() * cutoff / before)
    made = resample(samples.expand(2, 1, 60), before, after)
    assert made.shape == (2, 1, len(expected))
    torch.testing.assert_close(made[1, 0], samples if before == after else torch.stack(expected))


def test_the_stand_in_for_torchaudio_leaves_no_trace(folders: dict[str, Path]) -> None:
    before = sys.modules.get("torchaudio")
    module: Any = sys.modules[higgs_class().__module__]
    assert sys.modules.get("torchaudio") is before
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(2400) / 24_000)
    lower = module.torchaudio.functional.resample(tone, 24_000, 16_000)
    ideal = torch.sin(2 * torch.pi * 440 * torch.arange(1600) / 16_000)
    torch.testing.assert_close(lower[50:-50], ideal[50:-50], atol=5e-3, rtol=0)
