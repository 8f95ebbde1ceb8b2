"""How the tokenizers of this experiment are measured: what features and spectra lose, how codes are used, and
what the judge hears before and after.
"""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import soxr
import torch
from clips import HUMAN, SAMPLE_RATE, SYNTHETIC, Row, read_rows, waveform
from jaxtyping import Int
from torch import Tensor, nn

from trimask import rng
from trimask.evaluation.speech import edit_distance, transcribe
from trimask.evaluation.words import normalize_words
from trimask.io import read_json, write_json
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.training.speech_tokenizer import spectral_loss

SEED = 0
VOICES = (*SYNTHETIC, HUMAN)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Where things lie: DIR/clips, DIR/models, DIR/heard (transcripts), DIR/figures."""

    work: Path
    judge: Path | None

    @property
    def clips(self) -> Path:
        return self.work / "clips"

    def rows(self, split: str, speakers: tuple[str, ...] = VOICES, each: int | None = None) -> list[Row]:
        """The clips of a split, the first `each` of every speaker."""
        found = [row for row in read_rows(self.clips) if row.split == split]
        return [row for speaker in speakers for row in [r for r in found if r.speaker == speaker][:each]]

    def model(self, name: str) -> Path:
        return self.work / "models" / f"{slug(name)}.safetensors"


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def code_use(codes: Int[Tensor, "frames codebooks"], size: int, frame_rate: int) -> dict[str, Any]:
    """Tokens and bits a second, bits if each codebook were entropy coded, and how the codebooks are used."""
    perplexities, dead = [], []
    for column in codes.T:
        share = torch.bincount(column, minlength=size).double() / len(column)
        perplexities.append(float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum())))
        dead.append(int((share == 0).sum()))
    return {
        "tokens_per_second": frame_rate * codes.shape[1],
        "bits_per_second": frame_rate * codes.shape[1] * math.log2(size),
        "entropy_bits_per_second": frame_rate * sum(math.log2(p) for p in perplexities),
        "dead_codes": dead,
        "perplexity": perplexities,
        "frames": len(codes),
    }


@torch.no_grad()
def code_figures(shop: Workshop, tokenizer: SpeechTokenizer, rows: list[Row]) -> dict[str, Any]:
    """What features lose in the code, on clips that it was not trained on."""
    code, num_mels = tokenizer.autoencoder, tokenizer.config.features.num_mels
    mel, pitch, voiced, voicing, frames, codes = 0.0, 0.0, 0.0, 0.0, 0, []
    for row in rows:
        clip = waveform(shop.clips, row)
        codes.append(tokenizer.encode(clip))
        real = tokenizer.features(
            nn.functional.pad(clip, (0, -len(clip) % tokenizer.samples_per_frame))[None]
        )
        made = code.features(code.quantizer.decode(codes[-1])[None])
        apart = (made - real)[0].abs()
        mel += float(apart[:, :num_mels].mean(-1).sum())
        pitch += float((apart[:, -2] * real[0, :, -1]).sum())
        voiced += float(real[0, :, -1].sum())
        voicing += float(((made[0, :, -1] > 0.5) != (real[0, :, -1] > 0.5)).sum())
        frames += len(apart)
    return {
        "clips": len(rows),
        "mel_distance_nats": mel / frames,
        "pitch_error_percent": 100 * (2 ** (pitch / voiced) - 1),
        "voicing_errors_percent": 100 * voicing / frames,
        "codes": code_use(torch.cat(codes), tokenizer.codebook_size, tokenizer.frame_rate),
    }


@torch.no_grad()
def spectral_figures(
    shop: Workshop, tokenizer: SpeechTokenizer, rows: list[Row], speak: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Waveforms against what `speak` makes of them: envelope distance and the multi-resolution STFT loss."""
    mels, losses = [], []
    num_mels = tokenizer.config.features.num_mels
    for row in rows:
        clip = waveform(shop.clips, row)
        made = speak(clip)[: len(clip)]
        pair = tokenizer.features(torch.stack([clip, made]))[..., :num_mels]
        mels.append(float((pair[0] - pair[1]).abs().mean()))
        losses.append(float(spectral_loss(made[None], clip[None])))
    return {
        "clips": len(rows),
        "mel_distance_nats": float(np.mean(mels)),
        "stft_loss": float(np.mean(losses)),
    }


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_NUMBERS = dict(enumerate(f"{_ONES} seventeen eighteen nineteen twenty".split()))


def plain_words(text: str) -> list[str]:
    """Normalized words with numbers up to 20 spelled, others digit by digit: the judge writes 1 or one."""

    def spelled(match: re.Match[str]) -> str:
        number = int(match[0])
        digits = [int(d) for d in match[0]]
        return f" {_NUMBERS[number] if number in _NUMBERS else ' '.join(_NUMBERS[d] for d in digits)} "

    return normalize_words(re.sub(r"\d+", spelled, text))


def heard(shop: Workshop, system: str, rows: list[Row], speak: Callable[[Tensor], Tensor]) -> dict[str, str]:
    """What the judge hears in each clip after `speak`; kept, and gone on with, in DIR/heard."""
    path = shop.work / "heard" / f"{slug(system)}.json"
    texts: dict[str, str] = read_json(path) if path.exists() else {}
    missing = [row for row in rows if row.file_name not in texts]
    if missing and shop.judge is None:
        raise SystemExit("this step listens: pass --judge, the folder of a faster-whisper model")
    for start in range(0, len(missing), 50):
        assert shop.judge is not None
        some = missing[start : start + 50]
        clips = [speak(clip)[: len(clip)] for clip in (waveform(shop.clips, row) for row in some)]
        written = transcribe(clips, SAMPLE_RATE, shop.judge)
        texts |= {row.file_name: text for row, text in zip(some, written, strict=True)}
        write_json(path, texts)
        print(f"  {system}: heard {start + len(some)} of {len(missing)}", flush=True)
    return {row.file_name: texts[row.file_name] for row in rows}


def errors(
    rows: list[Row], texts: dict[str, str], split: Callable[[str], list[str]] = plain_words
) -> tuple[np.ndarray, np.ndarray]:
    """Word errors and words of each clip."""
    counts = []
    for row in rows:
        reference = split(row.text)
        counts.append((edit_distance(reference, split(texts[row.file_name])), len(reference)))
    array = np.array(counts, dtype=np.float64)
    return array[:, 0], array[:, 1]


def compared(
    rows: list[Row],
    before: dict[str, str],
    after: dict[str, str],
    split: Callable[[str], list[str]] = plain_words,
) -> dict[str, Any]:
    """Word error rates in percent, and their difference on the same clips (95 % bootstrap over clips)."""
    first, words = errors(rows, before, split)
    second, _ = errors(rows, after, split)
    drawn = rng.generator(SEED, "bootstrap").integers(0, len(rows), (4000, len(rows)))
    totals = words[drawn].sum(1)

    def interval(counts: np.ndarray) -> dict[str, float]:
        low, high = np.quantile(100 * counts[drawn].sum(1) / totals, [0.025, 0.975])
        return {"value": 100 * counts.sum() / words.sum(), "low": float(low), "high": float(high)}

    return {
        "clips": len(rows),
        "words": int(words.sum()),
        "before": interval(first),
        "after": interval(second),
        "difference": interval(second - first),
    }


def by_voice(rows: list[Row], before: dict[str, str], after: dict[str, str]) -> dict[str, dict[str, Any]]:
    """`compared` for each voice, for the synthetic ones together, and for all."""
    groups = {voice: [row for row in rows if row.speaker == voice] for voice in VOICES}
    groups["synthetic"] = [row for row in rows if row.speaker in SYNTHETIC]
    groups["all"] = rows
    return {name: compared(group, before, after) for name, group in groups.items() if group}


def round_trip(tokenizer: SpeechTokenizer) -> Callable[[Tensor], Tensor]:
    return lambda clip: tokenizer.decode(tokenizer.encode(clip))


def without_code(tokenizer: SpeechTokenizer) -> Callable[[Tensor], Tensor]:
    """True features straight to the vocoder: what no code can improve on."""

    @torch.no_grad()
    def speak(clip: Tensor) -> Tensor:
        whole = nn.functional.pad(clip, (0, -len(clip) % tokenizer.samples_per_frame))
        return tokenizer.vocoder(tokenizer.features(whole[None]))[0].clamp(-1, 1)

    return speak


def through_codec2(rate: int) -> Callable[[Tensor], Tensor]:
    """Codec 2 at `rate` bits a second: 8 kHz inside, 16 kHz outside."""

    def speak(clip: Tensor) -> Tensor:
        codec = importlib.import_module("pycodec2").Codec2(rate)
        size = codec.samples_per_frame()
        narrow = soxr.resample(clip.numpy(), SAMPLE_RATE, SAMPLE_RATE // 2)
        samples = np.clip(np.round(32767 * narrow), -32768, 32767).astype(np.int16)
        # A frame of silence at the end: the codec answers with a delay, and the last word must get out.
        samples = np.pad(samples, (0, size + -len(samples) % size))
        frames = [codec.decode(codec.encode(frame)) for frame in samples.reshape(-1, size)]
        wide = soxr.resample(np.concatenate(frames).astype(np.float32) / 32767, SAMPLE_RATE // 2, SAMPLE_RATE)
        return torch.from_numpy(np.asarray(wide, np.float32))

    return speak


def narrow(clip: Tensor) -> Tensor:
    """Through 8 kHz and back, no codec: what Codec 2 loses before it begins."""
    samples = soxr.resample(clip.numpy(), SAMPLE_RATE, SAMPLE_RATE // 2)
    return torch.from_numpy(np.asarray(soxr.resample(samples, SAMPLE_RATE // 2, SAMPLE_RATE), np.float32))


def louder(speak: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`speak` of every clip at the same level (0.12 rms), and back."""

    def leveled(clip: Tensor) -> Tensor:
        gain = 0.12 / float(clip.square().mean().sqrt())
        return speak(gain * clip) / gain

    return leveled


def original(clip: Tensor) -> Tensor:
    return clip
