"""Samples of a trial's model, compared with held-out originals without a judge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int

from trimask.evaluation.distances import frechet_distance
from trimask.evaluation.image import lab_features
from trimask.evaluation.spectral import cepstrum
from trimask.model.denoiser import Denoiser
from trimask.pixels import to_bytes
from trimask.sampling.config import SamplerConfig
from trimask.sampling.predictor import DenoiserPredictor
from trimask.sampling.sampler import sample
from trimask.studies.pretraining import draw_held_out
from trimask.studies.tokens import load_tokenizers
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary import sequence
from trimask.vocabulary.layout import Vocabulary

Codes = Int[np.ndarray, "_frames codebooks"]
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "divergence": "Jensen–Shannon divergence of the frequencies of codes, in bits, mean over codebooks",
        "repeats": "share of codes equal to their codebook's code before, minus that of the originals",
        "distance": "Fréchet distance of signals: of pictures, CIE L*a*b* in 4 × 4 fields; of speech, mean "
        "and spread of 13 mel cepstra",
    }
)
_FIELDS = 4  # a side
_BATCH = 16


class Signal(Protocol):
    """Turns the codes of a set into features of what they sound or look like."""

    def __call__(
        self, tokenizers: Tokenizers, codes: Sequence[Codes]
    ) -> Float[np.ndarray, "examples features"]: ...


def measure_samples(
    config: RunConfig, denoiser: Denoiser, tokens: Path, *, number: int, num_steps: int
) -> dict[str, float]:
    """Sample the targets of up to `number` held-out sequences of each modality anew, and compare the codes
    with the originals': `samples/{measure}/{modality}`, see `MEASURES`.

    Sequences, lengths, conditions and noise are the same for every trial. The sampler is the plain one
    (random order, temperature 1, no guidance), so that what is seen is the model's own distribution. All
    sets have one size in all trials, and so all distances one bias.
    """
    vocabulary, tokenizers = denoiser.vocabulary, load_tokenizers(config)
    held_out = draw_held_out(config, vocabulary, tokens)
    figures: dict[str, float] = {}
    for modality in vocabulary.modalities:
        originals = [one for one in held_out if one.task.target == modality][:number]
        if len(originals) < 2:
            continue
        with torch.no_grad():
            drawn = sample(
                DenoiserPredictor(denoiser),
                originals,
                SamplerConfig(num_steps=num_steps),
                seed=0,
                batch_size=_BATCH,
            )
        real = [_codes(vocabulary, modality, one, one.tokens) for one in originals]
        found = [_codes(vocabulary, modality, *each) for each in zip(originals, drawn, strict=True)]
        size = vocabulary.space(modality).codebook_size
        figures[f"samples/divergence/{modality}"] = code_divergence(found, real, codebook_size=size)
        figures[f"samples/repeats/{modality}"] = count_repeats(found) - count_repeats(real)
        if modality in SIGNALS:
            features = [SIGNALS[modality](tokenizers, codes) for codes in (found, real)]
            figures[f"samples/distance/{modality}"] = frechet_distance(*features)
    return figures


def code_divergence(a: Sequence[Codes], b: Sequence[Codes], *, codebook_size: int) -> float:
    """Return H((p + q)/2) − (H(p) + H(q))/2 in bits, mean over codebooks, of the frequencies of codes: 0 for
    equal ones, 1 for codes that have nothing in common. Small sets of equal frequencies are above 0.
    """
    values = []
    for codebook in range(a[0].shape[1]):
        p, q = (_frequencies(codes, codebook, codebook_size) for codes in (a, b))
        values.append(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)
    return float(np.mean(values))


def count_repeats(codes: Sequence[Codes]) -> float:
    """Return the share of codes equal to the code before them in their codebook; 0 without neighbours."""
    pairs = [each[1:] == each[:-1] for each in codes if len(each) > 1]
    return float(np.concatenate(pairs).mean()) if pairs else 0.0


def _codes(
    vocabulary: Vocabulary, modality: str, one: sequence.Sequence, tokens: Int[np.ndarray, "slots"]
) -> Codes:
    start, stop = one.spans[modality]
    span = tokens[start:stop].reshape(-1, vocabulary.space(modality).num_codebooks)
    return vocabulary.codes(modality, span)[0]


def _frequencies(codes: Sequence[Codes], codebook: int, size: int) -> Float[np.ndarray, "codes"]:
    counts = np.bincount(np.concatenate([each[:, codebook] for each in codes]), minlength=size)
    return counts / max(counts.sum(), 1)


def _entropy(p: Float[np.ndarray, "codes"]) -> float:
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


@torch.no_grad()
def _picture_features(tokenizers: Tokenizers, codes: Sequence[Codes]) -> Float[np.ndarray, "n features"]:
    pixels = to_bytes(tokenizers.image.decode(torch.from_numpy(np.stack(codes))))
    side = int(np.sqrt(lab_features(pixels[:1]).shape[1] // 3))
    lab = lab_features(pixels).reshape(len(pixels), _FIELDS, side // _FIELDS, _FIELDS, side // _FIELDS, 3)
    return lab.mean((2, 4)).reshape(len(pixels), -1)


@torch.no_grad()
def _speech_features(tokenizers: Tokenizers, codes: Sequence[Codes]) -> Float[np.ndarray, "n features"]:
    rows = []
    for each in codes:
        # A sample that ended at once has no sound: a frame of the first code stands for it.
        frames = each if len(each) else np.zeros((1, each.shape[1]), dtype=np.int64)
        waveform = tokenizers.speech.decode(torch.from_numpy(frames)).numpy()
        cepstra = cepstrum(waveform, tokenizers.speech.sample_rate)
        rows.append(np.concatenate([cepstra.mean(0), cepstra.std(0)]))
    return np.stack(rows)


SIGNALS: Mapping[str, Signal] = MappingProxyType({"image": _picture_features, "speech": _speech_features})
"""Features of signals by modality; others are compared by their codes alone."""
