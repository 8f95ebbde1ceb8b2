"""Train a speech tokenizer on recordings."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import nn

from trimask.tokenizer_training.decoded import Report, as_floats, as_integers, load_or_make
from trimask.tokenizer_training.kinds import Limit, TokenizerTraining, codebook_limit
from trimask.tokenizer_training.signals import Concatenation, Signal, Signals, SignalWriter
from trimask.tokenizer_training.speech import (
    Recording,
    SpeechCrops,
    SpeechTokenizerRun,
    SpeechTokenizerStep,
    speech_batches,
)
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.tokenizers.speech.autoencoder import MOST_FITTED
from trimask.tokenizers.speech.features import SpeechFeatures

_FIT_FRAMES = 1_000_000  # most feature frames to fit the linear code to: nearly three hours
_PIECE_FRAMES = 1024  # feature frames read at once
_FRAMES, _FEATURES = "frames.arrow", "features.arrow"


@final
class RecordingTraining(TokenizerTraining):
    """Fits the code to features and trains it, then trains the vocoder."""

    kind = "speech"
    tokenizer_type = SpeechTokenizer
    config: SpeechTokenizerRun

    def __init__(self, config: SpeechTokenizerRun) -> None:
        self.config = config
        self.size = config.tokenizer.features.sample_rate

    @property
    def stages(self) -> Mapping[int, str]:
        return {0: "the code", self.config.code.num_steps: "the vocoder"}

    @torch.no_grad()
    def data(self, rows: Signals, folder: Path, report: Report) -> Recording:
        """Pad the clips to whole code frames, and compute their features; `folder` stores both."""
        measure = SpeechFeatures(self.config.tokenizer.features)
        hop = self.config.tokenizer.features.hop

        def make() -> dict[str, Any]:
            with (
                SignalWriter(
                    folder / _FEATURES, shape=(-1, measure.num_features), dtype=np.float16
                ) as measured,
                SignalWriter(folder / _FRAMES, shape=(-1,), dtype=np.int16) as padded,
            ):
                for number, clip in enumerate(rows, 1):
                    report(f"measuring the features of speech {number}/{len(rows)}")
                    samples = torch.from_numpy(as_floats(clip.values))
                    whole = nn.functional.pad(samples, (0, -len(samples) % (hop * self._block)))
                    for writer, values in (
                        (padded, as_integers(whole.numpy())),
                        (measured, measure(whole[None])[0].numpy().astype(np.float16)),
                    ):
                        writer.add(Signal(key=clip.key, text="", speaker="", values=values))
            return {}

        found = load_or_make(folder / "features.json", make, lambda stored: [_FRAMES, _FEATURES])
        return Recording(
            waveform=Concatenation(found[_FRAMES]), features=Concatenation(found[_FEATURES]), hop=hop
        )

    def batches(self, data: Recording) -> Callable[[int], Iterator[SpeechCrops]]:
        config = self.config
        return speech_batches(data, code=config.code, vocoder=config.vocoder, seed=config.seed)

    def limits(self, data: Recording) -> Iterator[Limit]:
        num_frames, config = len(data.features), self.config
        for stage, training in (("code", config.code), ("vocoder", config.vocoder)):
            yield Limit(option=f"--{stage}.crop-frames", wanted=training.crop_frames, most=num_frames - 1)
        piece, num_pieces = self._pieces(num_frames)
        num_blocks = min(piece * num_pieces // self._block, MOST_FITTED)
        yield from codebook_limit("tokenizer.autoencoder", config.tokenizer.autoencoder.quantizer, num_blocks)

    def _pieces(self, num_frames: int) -> tuple[int, int]:
        """Return the frames of a piece, and the number of pieces to fit the code to."""
        piece = min(_PIECE_FRAMES, num_frames) // self._block * self._block
        return piece, min(num_frames // piece, _FIT_FRAMES // piece) if piece else 0

    def fit(self, tokenizer: SpeechTokenizer, data: Recording, draw: np.random.Generator) -> None:
        num_frames = len(data.features)
        piece, num_pieces = self._pieces(num_frames)
        starts = np.arange(0, num_frames - piece + 1, piece)
        starts = np.sort(draw.permutation(starts)[:num_pieces])
        pieces = [data.features.read(int(start), int(start) + piece) for start in starts]
        tokenizer.autoencoder.fit(torch.from_numpy(np.concatenate(pieces)).float(), draw)

    def step(self, tokenizer: SpeechTokenizer) -> SpeechTokenizerStep:
        return SpeechTokenizerStep(tokenizer, code=self.config.code, vocoder=self.config.vocoder)

    @property
    def _block(self) -> int:
        """Feature frames per code frame."""
        return self.config.tokenizer.autoencoder.frames_per_code
