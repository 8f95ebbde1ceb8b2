"""Speech tokenizer v1: trains on the quickstart clips and writes the weights that ship.

`python -m trimask.recipes.speech_tokenizer --out RUN [--resume]` leaves RUN/speech.safetensors and
RUN/report.json; with `--judge FOLDER` (a CTranslate2 Whisper model) the report has word error rates too.
`--weights FILE` measures that file and trains nothing.
"""

import argparse
import io
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import soundfile
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask import rng
from trimask.config import to_dict
from trimask.data.quickstart.tables import read_table
from trimask.devices import describe
from trimask.evaluation.speech import transcribe, word_error_rate
from trimask.io import write_json
from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
from trimask.training.loop import train
from trimask.training.optimizers import AdamWConfig
from trimask.training.speech_tokenizer import CodeStep, SpeechTraining, VocoderStep, speech_batches

SEED = 0
WEIGHTS = "speech.safetensors"
_UNSEEN = ("validation", "test")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechTokenizerRecipe:
    """Everything that the weights depend on besides the data."""

    tokenizer: SpeechTokenizerConfig
    code: SpeechTraining
    vocoder: SpeechTraining
    seed: int = SEED


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One reading of the quickstart data."""

    text: str
    kind: str
    voice: str
    waveform: Float[Tensor, "samples"]


def speech_tokenizer() -> SpeechTokenizerRecipe:
    """16 kHz, 25 frames a second of 4 residual codes of 512 (900 bit/s); 1.9M parameters, about 5 minutes on
    one free core.

    First the code on features alone, then the vocoder on what comes back through it.
    """
    return SpeechTokenizerRecipe(
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


def read_clips(*splits: str) -> list[Clip]:
    """The quickstart readings of these splits, in the order of the file."""
    return [
        Clip(
            text=row["text"],
            kind=row["kind"],
            voice=row["voice"],
            waveform=torch.from_numpy(soundfile.read(io.BytesIO(row["audio"]), dtype="float32")[0])[
                : row["num_samples"]
            ],
        )
        for row in read_table("speech")
        if row["split"] in splits
    ]


def train_speech_tokenizer(
    recipe: SpeechTokenizerRecipe, out: Path, *, resume: bool = False
) -> SpeechTokenizer:
    """Fits the linear code, trains the code and then the vocoder, and writes RUN/speech.safetensors."""
    tokenizer = new_tokenizer(recipe)
    waveform, features = as_recording(tokenizer, [clip.waveform for clip in read_clips("train")])
    tokenizer.autoencoder.fit(features, rng.generator(recipe.seed, "speech_tokenizer", "fit"))
    seconds = 0.0
    for stage, make_step, config in (
        ("code", CodeStep, recipe.code),
        ("vocoder", VocoderStep, recipe.vocoder),
    ):
        result = train(
            make_step(tokenizer, config),
            speech_batches(
                waveform,
                features,
                hop=recipe.tokenizer.features.hop,
                config=config,
                seed=recipe.seed,
                stage=stage,
            ),
            out=out / stage,
            config=to_dict(recipe),
            num_steps=config.num_steps,
            checkpoint_every=200,
            resume=resume and (out / stage).exists(),
            describe=f"speech tokenizer: {stage}",
        )
        if result.stopped != "finished":
            raise SystemExit(f"stopped after {result.steps} steps of {stage}: go on with --resume")
        seconds += result.seconds
    tokenizer.save(out / WEIGHTS, half=True, seed=str(recipe.seed), seconds=str(round(seconds)))
    return tokenizer


def new_tokenizer(recipe: SpeechTokenizerRecipe) -> SpeechTokenizer:
    """A tokenizer with seeded networks, nothing fitted yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(recipe.seed, "speech_tokenizer", "weights"))
        return SpeechTokenizer(recipe.tokenizer)


@torch.no_grad()
def as_recording(
    tokenizer: SpeechTokenizer, clips: list[Float[Tensor, "_"]]
) -> tuple[Float[Tensor, "samples"], Float[Tensor, "frames features"]]:
    """All clips one after the other, in whole code frames, and their features (measured clip by clip)."""
    padded = [nn.functional.pad(clip, (0, -len(clip) % tokenizer.samples_per_frame)) for clip in clips]
    return torch.cat(padded), torch.cat([tokenizer.features(clip[None])[0] for clip in padded])


def measure(tokenizer: SpeechTokenizer, clips: list[Clip], *, judge: Path | None) -> dict[str, Any]:
    """Round trip of clips: spectral distance, use of the codes, speed; with a judge also word error rates,
    before and after.
    """
    began = time.process_time()
    codes = [tokenizer.encode(clip.waveform) for clip in clips]
    encoded = time.process_time()
    made = [tokenizer.decode(code)[: len(clip.waveform)] for code, clip in zip(codes, clips, strict=True)]
    decoded = time.process_time()
    seconds = sum(len(clip.waveform) for clip in clips) / tokenizer.sample_rate
    figures: dict[str, Any] = {
        "clips": len(clips),
        "seconds": seconds,
        "mel_distance": _mel_distance(tokenizer, clips, made),
        "encode_seconds_per_second": (encoded - began) / seconds,
        "decode_seconds_per_second": (decoded - encoded) / seconds,
        "codebooks": code_use(torch.cat(codes), tokenizer.codebook_size),
        "machine": describe(),
    }
    if judge is not None:
        texts = [clip.text for clip in clips]
        for name, waveforms in (("clips", [clip.waveform for clip in clips]), ("round_trip", made)):
            heard = transcribe(waveforms, tokenizer.sample_rate, judge)
            figures[f"word_error_rate_{name}"] = asdict(word_error_rate(texts, heard))
    return figures


def code_use(codes: Int[Tensor, "frames codebooks"], codebook_size: int) -> list[dict[str, float]]:
    """For each codebook the fraction of its codes that occur, and exp(entropy) of their frequencies."""
    uses = []
    for column in codes.T:
        share = torch.bincount(column, minlength=codebook_size).double() / len(column)
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        uses.append({"used": float((share > 0).double().mean()), "perplexity": float(entropy.exp())})
    return uses


@torch.no_grad()
def _mel_distance(tokenizer: SpeechTokenizer, clips: list[Clip], made: list[Tensor]) -> float:
    """Mean |Δ log-mel envelope| in nats, over all frames of all clips."""
    num_mels = tokenizer.config.features.num_mels
    total, frames = 0.0, 0
    for clip, waveform in zip(clips, made, strict=True):
        pair = tokenizer.features(torch.stack([clip.waveform, waveform]))[..., :num_mels]
        total += float((pair[0] - pair[1]).abs().mean(-1).sum())
        frames += pair.shape[1]
    return total / frames


def unseen_sentences(count: int) -> list[Clip]:
    """`count` sentences of validation and test, drawn evenly over the file, hence over both voices."""
    sentences = [clip for clip in read_clips(*_UNSEEN) if clip.kind == "sentence"]
    order = rng.generator(SEED, "speech_tokenizer", "measure").permutation(len(sentences))
    return [sentences[i] for i in sorted(order[:count])]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trimask.recipes.speech_tokenizer", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="run directory, a new one unless --resume")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--weights", type=Path, help="measure this file, train nothing")
    parser.add_argument("--judge", type=Path, help="folder of a CTranslate2 Whisper model")
    parser.add_argument("--clips", type=int, default=200, help="unseen sentences to measure on")
    arguments = parser.parse_args()
    if arguments.weights is None:
        train_speech_tokenizer(speech_tokenizer(), arguments.out, resume=arguments.resume)
    tokenizer = SpeechTokenizer.load(arguments.weights or arguments.out / WEIGHTS)
    report = measure(tokenizer, unseen_sentences(arguments.clips), judge=arguments.judge)
    write_json(arguments.out / "report.json", report)


if __name__ == "__main__":
    main()
