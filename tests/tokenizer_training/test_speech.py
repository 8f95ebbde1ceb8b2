"""The losses, the updates and the batches of the speech tokenizer's training, on made-up features."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trimask import rng
from trimask.tokenizer_training.signals import Concatenation, Signal, Signals, SignalWriter
from trimask.tokenizer_training.speech import (
    CodeStep,
    Recording,
    SpeechCrops,
    SpeechTokenizerStep,
    SpeechTraining,
    VocoderStep,
    code_losses,
    mel_loss,
    spectral_loss,
    speech_batches,
)
from trimask.tokenizers.quantizer import ResidualVectorConfig
from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
from trimask.tokenizers.speech.autoencoder import AutoencoderConfig
from trimask.tokenizers.speech.vocoder import VocoderConfig
from trimask.training.optimizers import AdamWConfig

SMALL = SpeechTokenizerConfig(
    autoencoder=AutoencoderConfig(
        quantizer=ResidualVectorConfig(dim=8, codebook_size=8, num_codebooks=2),
        decoder_width=16,
        decoder_depth=1,
        refiner_width=8,
        refiner_depth=1,
    ),
    vocoder=VocoderConfig(width=16, depth=1),
)
TRAINING = SpeechTraining(
    num_steps=30, batch_size=2, crop_frames=32, optimizer=AdamWConfig(learning_rate=2e-3, weight_decay=0.0)
)


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    """Ten seconds of noise bursts: something whose features move."""
    noise = torch.from_numpy(rng.generator(0, "test").standard_normal(160_000)).float()
    return 0.1 * noise * torch.sin(torch.arange(160_000) / 3000).clamp(min=0.0)


@pytest.fixture
def tokenizer() -> SpeechTokenizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SpeechTokenizer(SMALL)


@pytest.fixture
def recording(tokenizer: SpeechTokenizer, waveform: torch.Tensor, tmp_path: Path) -> Recording:
    return stored(tokenizer, waveform, tmp_path)


def stored(tokenizer: SpeechTokenizer, waveform: torch.Tensor, folder: Path) -> Recording:
    """Two clips of unequal length."""
    paths = folder / "waveforms.arrow", folder / "features.arrow"
    cut = len(waveform) // 3 // 640 * 640
    with (
        SignalWriter(paths[0], shape=(-1,), dtype=np.int16) as samples,
        SignalWriter(paths[1], shape=(-1, 66), dtype=np.float16) as measured,
    ):
        for clip in (waveform[:cut], waveform[cut:]):
            integers = np.rint(clip.numpy() * 32767).astype(np.int16)
            samples.add(Signal(key="", text="", speaker="", values=integers))
            features = tokenizer.features(clip[None])[0].numpy().astype(np.float16)
            measured.add(Signal(key="", text="", speaker="", values=features))
    waveforms, features = (Concatenation(Signals(path)) for path in paths)
    return Recording(waveform=waveforms, features=features, hop=160)


def batches_of(recording: Recording, start: int = 0):
    return speech_batches(recording, code=TRAINING, vocoder=TRAINING, seed=0)(start)


def test_the_fitted_linear_code_is_better_than_the_mean(tokenizer: SpeechTokenizer, waveform: torch.Tensor):
    features = tokenizer.features(waveform[None])
    tokenizer.autoencoder.fit(features[0], rng.generator(0, "fit"))
    spread = float((features[..., :-2] - features[..., :-2].mean(1)).abs().mean())
    with torch.no_grad():
        figures, _ = code_losses(tokenizer.autoencoder, features)
        assert float(figures["mel"]) < 0.6 * spread


@pytest.mark.parametrize("make_step", [CodeStep, VocoderStep])
def test_the_loss_falls_and_a_resume_is_exact(
    make_step: type[CodeStep] | type[VocoderStep],
    tokenizer: SpeechTokenizer,
    waveform: torch.Tensor,
    recording: Recording,
):
    if (
        make_step is VocoderStep
    ):  # it needs a code; and a code that is fitted already has little left to learn here
        tokenizer.autoencoder.fit(tokenizer.features(waveform[None])[0], rng.generator(0, "fit"))
    step = make_step(tokenizer, TRAINING)
    all_of_it = SpeechCrops(waveform=waveform[None], features=tokenizer.features(waveform[None]))

    def loss() -> float:
        with torch.no_grad():
            return float(step.losses(all_of_it)["loss"])

    before = loss()
    batches = batches_of(recording)
    for batch in itertools.islice(batches, 12):
        step(batch)
    assert loss() < before
    saved = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    expected = float(step(next(batches))["loss"])
    again = make_step(tokenizer, TRAINING)
    again.load_state_dict(saved)
    assert float(again(next(iter(batches_of(recording, start=12))))["loss"]) == expected


def test_the_projection_is_not_trained(tokenizer: SpeechTokenizer, recording: Recording):
    before = tokenizer.autoencoder.analysis.weight.clone()
    CodeStep(tokenizer, TRAINING)(next(iter(batches_of(recording))))
    assert torch.equal(before, tokenizer.autoencoder.analysis.weight)


def test_equal_waveforms_have_no_spectral_loss_and_louder_ones_have(waveform: torch.Tensor):
    real = waveform[None, 40_000:50_000]
    assert float(spectral_loss(real, real)) == 0.0
    assert float(spectral_loss(2 * real, real)) > float(spectral_loss(1.1 * real, real)) > 0.0


def test_mel_loss_is_the_difference_of_levels_and_leaves_silence_alone(waveform: torch.Tensor):
    loud = 10 * waveform[None, 5_000:9_000]  # all of it far above the floor
    assert float(mel_loss(loud, loud, 16_000)) == 0.0
    assert float(mel_loss(2 * loud, loud, 16_000)) == pytest.approx(math.log(2), rel=1e-3)
    silence = torch.zeros(1, 4_000, requires_grad=True)
    mel_loss(silence, loud, 16_000).backward()
    assert silence.grad is not None
    assert bool(silence.grad.isfinite().all())


def test_the_mel_loss_is_the_vocoders_and_refused_elsewhere(
    tokenizer: SpeechTokenizer, waveform: torch.Tensor, recording: Recording
):
    tokenizer.autoencoder.fit(tokenizer.features(waveform[None])[0], rng.generator(0, "fit"))
    batch = next(iter(batches_of(recording)))
    with_mel = replace(TRAINING, mel_weight=2.0)
    with torch.no_grad():
        plain = VocoderStep(tokenizer, TRAINING).losses(batch)["loss"]
        figures = VocoderStep(tokenizer, with_mel).losses(batch)
    assert float(figures["spectral"]) == float(plain)
    assert float(figures["loss"]) == pytest.approx(float(plain) + 2 * float(figures["mel"]))
    with pytest.raises(ValueError, match=r"mel_weight=2\.0 is for the vocoder"):
        CodeStep(tokenizer, with_mel)
    with pytest.raises(ValueError, match="mel_weight=-1"):
        replace(TRAINING, mel_weight=-1.0)


def test_batches_are_a_function_of_the_index(recording: Recording):
    third = list(itertools.islice(batches_of(recording), 3))[2]
    again = next(iter(batches_of(recording, start=2)))
    assert torch.equal(third.waveform, again.waveform)
    assert torch.equal(third.features, again.features)
    assert third.waveform.shape == (2, 32 * 160)


def test_crops_are_pieces_of_the_clips_end_to_end(recording: Recording, waveform: torch.Tensor):
    for first in (0, 300, 330, 960):  # the first clip ends at frame 332
        samples, features = recording.crop(first, 32)
        assert torch.allclose(samples, waveform[first * 160 : (first + 32) * 160], atol=1e-4)
        assert features.shape == (32, 66)


def test_too_little_speech_is_named(tokenizer: SpeechTokenizer, waveform: torch.Tensor, tmp_path: Path):
    short = stored(tokenizer, waveform[:3840], tmp_path)
    with pytest.raises(ValueError, match="24 frames of speech are too few for a crop of 32: add recordings"):
        next(batches_of(short))


def test_a_run_trains_the_code_and_then_the_vocoder(
    tokenizer: SpeechTokenizer, recording: Recording, waveform: torch.Tensor
):
    code, vocoder = replace(TRAINING, num_steps=3), replace(TRAINING, num_steps=2, crop_frames=16)
    batches = list(itertools.islice(speech_batches(recording, code=code, vocoder=vocoder, seed=0)(0), 5))
    assert [batch.features.shape[1] for batch in batches] == [32, 32, 32, 16, 16]

    def run(step: SpeechTokenizerStep, numbers: range) -> None:
        for number in numbers:
            step(batches[number])

    def new() -> SpeechTokenizerStep:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fresh = SpeechTokenizer(SMALL)
        fresh.autoencoder.fit(fresh.features(waveform[None])[0], rng.generator(0, "fit"))
        return SpeechTokenizerStep(fresh, code=code, vocoder=vocoder)

    whole = new()
    start = {name: tensor.clone() for name, tensor in whole.tokenizer.state_dict().items()}
    run(whole, range(3))
    trained = dict(whole.tokenizer.state_dict())
    assert all(torch.equal(t, start[n]) for n, t in trained.items() if n.startswith("vocoder."))
    assert any(not torch.equal(t, start[n]) for n, t in trained.items() if n.startswith("autoencoder."))
    run(whole, range(3, 5))
    for cut in (2, 3, 4):  # in the first stage, between the two, in the second
        first, second = new(), new()
        run(first, range(cut))
        second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
        run(second, range(cut, 5))
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[name]), (cut, name)
