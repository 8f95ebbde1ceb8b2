"""Measure what a tokenizer loses by round trips of pictures and recordings, and how it uses its codes."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, UInt8

from trimask import rng
from trimask.estimate import Estimate, mean
from trimask.evaluation.judges.panel import Panel
from trimask.evaluation.spectral import MEASURE, mel_cepstral_distance
from trimask.evaluation.speech import count_words, word_error_change, word_error_rate
from trimask.evaluation.text import derangement
from trimask.evaluation.words import normalize_words, unit_of
from trimask.pixels import to_bytes, to_pixels
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec

Resample = Callable[[Float32[np.ndarray, "_"], int, int], Float32[np.ndarray, "_"]]
_BATCH = 64
_JUDGE_RATE = 16_000  # Hz


@torch.inference_mode()
def image_round_trip(
    codec: ImageCodec, images: UInt8[np.ndarray, "n size size 3"]
) -> tuple[UInt8[np.ndarray, "n size size 3"], Int[np.ndarray, "n cells codebooks"]]:
    """Encode and decode pictures; return the results as bytes, and the codes."""
    made, codes = [], []
    for batch in np.array_split(images, range(_BATCH, len(images), _BATCH)):
        codes.append(codec.encode(to_pixels(batch)))
        made.append(to_bytes(codec.decode(codes[-1])))
    return np.concatenate(made), torch.cat(codes).numpy()


def image_figures(codec: ImageCodec, images: UInt8[np.ndarray, "n size size 3"]) -> dict[str, Any]:
    """Measure mean PSNR (dB) and SSIM of a round trip through bytes, and the use of codes.

    The floor replaces each picture by its mean colour.
    """
    made, codes = image_round_trip(codec, images)
    flat = np.broadcast_to(images.mean((1, 2), keepdims=True).round().astype(np.uint8), images.shape)
    num_codes = codes.shape[1] * codes.shape[2]
    squared = _squared_error(made, images)
    return {
        "images": len(images),
        "psnr": _psnr(squared).as_json(),
        "psnr_floor": _psnr(_squared_error(flat, images)).as_json(),
        "psnr_of_mean_error": float(-10 * np.log10(max(squared.mean(), 1e-10))),
        "ssim": mean(structural_similarity(made, images)).as_json(),
        "ssim_floor": mean(structural_similarity(flat, images)).as_json(),
        "codes_per_image": num_codes,
        "bits_per_image": num_codes * math.log2(codec.codebook_size),
        "codebooks": codebook_use(codes.reshape(-1, codes.shape[2]), codec.codebook_size),
    }


def structural_similarity(
    made: UInt8[np.ndarray, "n size size 3"], real: UInt8[np.ndarray, "n size size 3"]
) -> Float[np.ndarray, "n"]:
    """Compute SSIM, averaged over channels and pixels (Wang et al. 2004: Gaussian window 11, sigma 1.5)."""
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 11, 11)
    found = []
    for first in range(0, len(real), _BATCH):
        pair = (torch.from_numpy(np.array(x[first : first + _BATCH])) for x in (made, real))
        a, b = (x.permute(0, 3, 1, 2).float() / 255 for x in pair)
        mean_a, mean_b, aa, bb, ab = (F.conv2d(x, window, groups=3) for x in (a, b, a * a, b * b, a * b))
        variances = aa - mean_a**2 + bb - mean_b**2
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        contrast = (2 * (ab - mean_a * mean_b) + 0.03**2) / (variances + 0.03**2)
        found.append((luminance * contrast).mean((1, 2, 3)))
    return torch.cat(found).numpy()


def codebook_use(
    codes: Int[np.ndarray, "places codebooks"], codebook_size: int
) -> list[dict[str, float | int]]:
    """Measure the use of each codebook: numbers of used and dead codes, and perplexity.

    `perplexity_inked` leaves out the positions with the most frequent tuple of codes (white, or silence).
    """
    tuples, counts = np.unique(codes, axis=0, return_counts=True)
    inked = codes[(codes != tuples[counts.argmax()]).any(-1)]
    use = []
    for book in range(codes.shape[1]):
        counts = np.bincount(codes[:, book], minlength=codebook_size)
        used = int((counts > 0).sum())
        figures = {"used": used, "dead": codebook_size - used, "perplexity": _perplexity(counts)}
        use.append(figures | {"perplexity_inked": _perplexity(np.bincount(inked[:, book], minlength=1))})
    return use


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """Recordings at `sample_rate` (Hz), with their texts and speakers ("" where unknown)."""

    waveforms: Sequence[Float32[np.ndarray, "_"]]
    sample_rate: int
    texts: Sequence[str]
    speakers: Sequence[str] = field(default=())


@torch.inference_mode()
def speech_round_trip(
    codec: SpeechCodec, clips: Clips
) -> tuple[list[Float32[np.ndarray, "_"]], list[Int[np.ndarray, "_ codebooks"]]]:
    """Encode and decode clips; return the results, cut to the clips' lengths, and the codes."""
    made, codes = [], []
    for clip in clips.waveforms:
        codes.append(codec.encode(torch.from_numpy(clip)))
        made.append(codec.decode(codes[-1]).float().numpy()[: len(clip)])
    return made, [each.numpy() for each in codes]


def speech_figures(
    codec: SpeechCodec, clips: Clips, *, judges: Panel, resample: Resample, seed: int = 0
) -> dict[str, Any]:
    """Measure distances, rates and the use of codes; with judges also word errors, voice and quality.

    Floors: another clip, and noise of the same loudness. Ceilings: the clips themselves.
    """
    began = time.process_time()
    made, codes = speech_round_trip(codec, clips)
    seconds = sum(map(len, clips.waveforms)) / clips.sample_rate
    rate = codec.frame_rate * codec.num_codebooks
    real = [resample(clip, clips.sample_rate, _JUDGE_RATE) for clip in clips.waveforms]
    after = [resample(clip, clips.sample_rate, _JUDGE_RATE) for clip in made]
    draw = rng.generator(seed, "reconstruction", "noise")
    noise = [(draw.standard_normal(len(c)) * np.sqrt(np.mean(c**2))).astype(np.float32) for c in real]
    figures: dict[str, Any] = {
        "clips": len(real),
        "seconds": seconds,
        "processor_seconds_per_second": (time.process_time() - began) / seconds,
        "codes_per_second": rate,
        "bits_per_second": rate * math.log2(codec.codebook_size),
        "codebooks": codebook_use(np.concatenate(codes), codec.codebook_size),
        "mel_cepstral_distance": {"measure": MEASURE} | _spectral(real, after, noise, seed),
    }
    if judges.recognizer is not None and any(map(normalize_words, clips.texts)):
        figures["word_error_rate"] = _word_error_rates(clips, real, after, judges)
    if judges.speaker is not None:
        own = judges.speaker.vectors(real, _JUDGE_RATE)
        compared = {"round_trip": after, "noise": noise}
        figures["speaker_similarity"] = {"judge": judges.speaker.name} | {
            name: mean((judges.speaker.vectors(each, _JUDGE_RATE) * own).sum(1)).as_json()
            for name, each in compared.items()
        }
    if judges.quality is not None:
        compared = {"clips": real, "round_trip": after, "noise": noise}
        figures["quality"] = {"judge": judges.quality.name} | {
            name: mean(judges.quality.scores(each, _JUDGE_RATE)).as_json() for name, each in compared.items()
        }
    return figures


def _spectral(
    real: list[Float32[np.ndarray, "_"]],
    made: list[Float32[np.ndarray, "_"]],
    noise: list[Float32[np.ndarray, "_"]],
    seed: int,
) -> dict[str, Any]:
    compared = {"round_trip": made, "noise": noise}
    if len(real) > 1:
        compared["shuffled"] = [real[j] for j in derangement(len(real), seed)]
    return {
        name: mean(
            [mel_cepstral_distance(a, b, _JUDGE_RATE) for a, b in zip(real, clips, strict=True)]
        ).as_json()
        for name, clips in compared.items()
    }


def _word_error_rates(
    clips: Clips,
    real: list[Float32[np.ndarray, "_"]],
    made: list[Float32[np.ndarray, "_"]],
    judges: Panel,
) -> dict[str, Any]:
    """Compute word error rates before and after the round trip, their paired difference, and per speaker."""
    assert judges.recognizer is not None
    known = [i for i, text in enumerate(clips.texts) if normalize_words(text)]
    texts = [clips.texts[i] for i in known]
    before = judges.recognizer.transcribe([real[i] for i in known], _JUDGE_RATE)
    after = judges.recognizer.transcribe([made[i] for i in known], _JUDGE_RATE)
    speakers = [clips.speakers[i] if clips.speakers else "" for i in known]
    groups = {
        speaker: [i for i, s in enumerate(speakers) if s == speaker] for speaker in sorted(set(speakers))
    }

    def compare(rows: Sequence[int]) -> dict[str, Any]:
        references = [texts[i] for i in rows]
        first, second = ([transcripts[i] for i in rows] for transcripts in (before, after))
        return {
            "clips": word_error_rate(references, first).as_json(),
            "round_trip": word_error_rate(references, second).as_json(),
            "difference": word_error_change(references, first, second).as_json(),
            "words": count_words(references),
            "unit": unit_of(references),
        }

    found = {"judge": judges.recognizer.name} | compare(range(len(texts)))
    if len(groups) > 1:
        found["speakers"] = {speaker: compare(rows) for speaker, rows in groups.items()}
    return found


def _squared_error(
    made: UInt8[np.ndarray, "n size size 3"], real: UInt8[np.ndarray, "n size size 3"]
) -> Float[np.ndarray, "n"]:
    """Compute the mean squared error of each picture, with pixels in [0, 1]."""
    return np.array(
        [np.mean((a.astype(np.float64) - b) ** 2) / 255**2 for a, b in zip(made, real, strict=True)]
    )


def _psnr(squared: Float[np.ndarray, "n"]) -> Estimate:
    return mean(-10 * np.log10(np.maximum(squared, 1e-10)))


def _perplexity(counts: Int[np.ndarray, "n"]) -> float:
    if not counts.sum():
        return 0.0
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
