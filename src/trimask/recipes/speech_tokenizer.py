"""Speech tokenizers: recipes, and how one becomes a run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trimask import rng
from trimask.config import to_dict
from trimask.data.signals import Concatenation, Signal, Signals, SignalWriter
from trimask.recipes.tokenizer_data import as_floats, as_integers, digest, training_signals
from trimask.tokenizers.quantizer import ResidualVectorConfig
from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
from trimask.training.checkpoint import open_run
from trimask.training.loop import TrainResult, train
from trimask.training.optimizers import AdamWConfig
from trimask.training.speech_tokenizer import (
    Recording,
    SpeechTokenizerRun,
    SpeechTokenizerStep,
    SpeechTraining,
    speech_batches,
)

WEIGHTS = "speech.safetensors"
_START = "start.safetensors"
_FIT_FRAMES = 1_000_000  # feature frames that the linear code is fitted to: nearly three hours
_PIECE_FRAMES = 1024  # of them that are read together


def speech_tokenizer() -> SpeechTokenizerRun:
    """The speech tokenizer that ships: 16 kHz as 25 frames a second of 4 residual codes of 512, 900 bit/s.

    Size: 1.9M parameters. Cost: about five minutes on one CPU core.
    Expect: on two synthetic voices 7 points more word errors than the clips themselves (card).
    """
    return SpeechTokenizerRun(
        tokenizer=SpeechTokenizerConfig(),
        code=SpeechTraining(
            num_steps=1600,
            batch_size=16,
            crop_frames=256,
            optimizer=AdamWConfig(learning_rate=1e-3, beta2=0.98, weight_decay=0.01),
        ),
        vocoder=SpeechTraining(
            num_steps=900,
            batch_size=8,
            crop_frames=100,
            optimizer=AdamWConfig(learning_rate=2e-3, beta2=0.98, weight_decay=0.01),
        ),
    )


def speech_tokenizer_fine() -> SpeechTokenizerRun:
    """For several voices: 16 kHz as 25 frames a second of 8 residual codes of 4,096, 200 codes a second.

    Size: 5.0M parameters. Cost: half an hour on one CPU core.
    Train it on many voices (--data); the embedded data has two, both synthetic. Expect, on four synthetic
    voices and a person, 2 points more word errors than the clips themselves (experiments/).
    """
    base = speech_tokenizer()
    quantizer = ResidualVectorConfig(dim=96, codebook_size=4096, num_codebooks=8, beam_width=4)
    return replace(
        base,
        tokenizer=replace(
            base.tokenizer, autoencoder=replace(base.tokenizer.autoencoder, quantizer=quantizer)
        ),
        vocoder=replace(base.vocoder, num_steps=2000, mel_weight=2.0),
    )


def train_speech_tokenizer(
    config: SpeechTokenizerRun,
    out: Path,
    *,
    recipe: str,
    resume: bool = False,
    deadline: float | None = None,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[int, Mapping[str, Any]], None] | None = None,
) -> TrainResult:
    """Run `config` in the directory `out`: fit the linear code, train the code, then the vocoder; leaves the
    weights (float16) as `speech.safetensors`.
    """
    resolved = {"recipe": recipe, "run": to_dict(config)}
    open_run(out, resolved, resume=resume)
    rate = config.tokenizer.features.sample_rate
    clips = training_signals(config.data, "speech", size=rate, folder=out / "data", report=report)
    tokenizer = _seeded(config)
    recording = _measured(tokenizer, clips, out / "data", report)
    _fit(config, tokenizer, recording, out / _START, report)
    result = train(
        SpeechTokenizerStep(tokenizer, code=config.code, vocoder=config.vocoder),
        speech_batches(recording, code=config.code, vocoder=config.vocoder, seed=config.seed),
        out=out,
        config=resolved,
        num_steps=config.num_steps,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        resume=True,  # `open_run` has settled whether this directory may be used
        deadline=deadline,
        describe=recipe,
        on_progress=on_progress,
    )
    facts = {"recipe": recipe, "steps": str(result.steps), "trained_on": digest(clips)}
    tokenizer.save(out / WEIGHTS, half=True, **facts)
    return result


def _seeded(config: SpeechTokenizerRun) -> SpeechTokenizer:
    """A tokenizer with seeded networks, nothing fitted yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(config.seed, "speech_tokenizer", "weights"))
        return SpeechTokenizer(config.tokenizer)


@torch.no_grad()
def _measured(
    tokenizer: SpeechTokenizer, clips: Signals, folder: Path, report: Callable[[str], None]
) -> Recording:
    """The clips in whole code frames, and their features, kept in `folder`."""
    waveforms, features = folder / "frames.arrow", folder / "features.arrow"
    if not features.exists():  # written last: it closes when the other one has
        report("measuring the features of speech")
        with (
            SignalWriter(features, shape=(-1, tokenizer.features.num_features), dtype=np.float16) as measured,
            SignalWriter(waveforms, shape=(-1,), dtype=np.int16) as padded,
        ):
            for clip in clips:
                samples = torch.from_numpy(as_floats(clip.values))
                whole = nn.functional.pad(samples, (0, -len(samples) % tokenizer.samples_per_frame))
                for writer, values in (
                    (padded, as_integers(whole.numpy())),
                    (measured, tokenizer.features(whole[None])[0].numpy().astype(np.float16)),
                ):
                    writer.add(Signal(key=clip.key, text="", speaker="", values=values))
    return Recording(
        waveform=Concatenation(Signals(waveforms)),
        features=Concatenation(Signals(features)),
        hop=tokenizer.config.features.hop,
    )


def _fit(
    config: SpeechTokenizerRun,
    tokenizer: SpeechTokenizer,
    recording: Recording,
    kept: Path,
    report: Callable[[str], None],
) -> None:
    """Start the code from data; k-means takes its time: a resumed run goes on from what it gave."""
    if kept.exists():
        tokenizer.load_state_dict(SpeechTokenizer.load(kept).state_dict())
        return
    report("fitting the linear code and the codebooks")
    draw = rng.generator(config.seed, "speech_tokenizer", "fit")
    num_frames, block = len(recording.features), config.tokenizer.autoencoder.frames_per_code
    piece = min(_PIECE_FRAMES, num_frames) // block * block
    starts = np.arange(0, num_frames - piece + 1, piece)
    starts = np.sort(draw.permutation(starts)[: _FIT_FRAMES // piece])
    pieces = [recording.features.read(int(start), int(start) + piece) for start in starts]
    tokenizer.autoencoder.fit(torch.from_numpy(np.concatenate(pieces)).float(), draw)
    tokenizer.save(kept)
