"""`python run.py STEP --work DIR [...]`: everything in this experiment's tables, in the order of `STEPS`.

Each step leaves its models and figures under DIR and does not make again what is there; `tables` gathers
them in results.json (kept as results.json.gz: unpack it first). One CPU thread.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, final

import torch
from clips import HUMAN, UNSEEN_VOICE, build, read_rows, waveform
from jaxtyping import Float
from measure import (
    SEED,
    VOICES,
    Workshop,
    by_voice,
    code_figures,
    heard,
    louder,
    narrow,
    original,
    round_trip,
    spectral_figures,
    through_codec2,
    without_code,
)
from torch import Tensor, nn
from variants import (
    AdversarialStep,
    CodeLoss,
    ProductVectorConfig,
    TrueFeaturesStep,
    VariantCodeStep,
    spread_components,
    todays_loss,
    weighed_loss,
)

from trimask import rng
from trimask.devices import describe
from trimask.io import load_tensors, read_json, save_tensors, write_json
from trimask.tokenizers.quantizer import FiniteScalarConfig, QuantizerConfig, ResidualVectorConfig
from trimask.tokenizers.speech import SpeechTokenizer, SpeechTokenizerConfig
from trimask.tokenizers.speech.autoencoder import AutoencoderConfig
from trimask.tokenizers.speech.features import SpeechFeatures, SpeechFeaturesConfig
from trimask.training.optimizers import AdamWConfig
from trimask.training.speech_tokenizer import (
    SpeechCrops,
    SpeechStep,
    SpeechTraining,
    VocoderStep,
)

SHIPPED = Path("src/trimask/assets/tokenizers/speech.safetensors")
CODEC2_RATES = (2400, 3200, 1600, 1200)
LISTENED = 40  # test clips of every voice that the judge hears
CODE = SpeechTraining(
    num_steps=200,
    batch_size=16,
    crop_frames=256,
    optimizer=AdamWConfig(learning_rate=1e-3, beta2=0.98, weight_decay=0.01),
)
SHARED = SpeechTraining(
    num_steps=500,
    batch_size=8,
    crop_frames=100,
    optimizer=AdamWConfig(learning_rate=2e-3, beta2=0.98, weight_decay=0.01),
)


FEATURES = SpeechFeaturesConfig()


def residual(codebooks: int, size: int, dim: int = 64) -> QuantizerConfig:
    return ResidualVectorConfig(dim=dim, codebook_size=size, num_codebooks=codebooks)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One code to train, on the same data and for as many steps as the others."""

    quantizer: QuantizerConfig
    frames_per_code: int = 4
    width: int = 256
    depth: int = 4
    loss: CodeLoss = todays_loss
    spread: bool = False
    learns_projection: bool = False

    def config(self) -> SpeechTokenizerConfig:
        return SpeechTokenizerConfig(
            features=FEATURES,
            autoencoder=AutoencoderConfig(
                frames_per_code=self.frames_per_code,
                quantizer=self.quantizer,
                decoder_width=self.width,
                decoder_depth=self.depth,
            ),
        )


GEOMETRY = {
    "25 Hz x 4 x 512": Variant(quantizer=residual(4, 512)),
    "25 Hz x 8 x 512": Variant(quantizer=residual(8, 512)),
    "25 Hz x 8 x 512, 96 components": Variant(quantizer=residual(8, 512, 96)),
    "25 Hz x 8 x 1024, 96 components": Variant(quantizer=residual(8, 1024, 96)),
    "50 Hz x 4 x 512": Variant(quantizer=residual(4, 512), frames_per_code=2),
}
QUANTIZERS = {
    "residual VQ, 25 Hz x 4 x 512": GEOMETRY["25 Hz x 4 x 512"],
    "product VQ, 25 Hz x 4 x 512": Variant(quantizer=ProductVectorConfig(num_codebooks=4)),
    "plain VQ, 100 Hz x 1 x 512": Variant(
        quantizer=ProductVectorConfig(dim=48, num_codebooks=1), frames_per_code=1
    ),
    "FSQ, 25 Hz x 4 x (16, 8, 4)": Variant(
        quantizer=FiniteScalarConfig(levels=(16, 8, 4), num_codebooks=4), spread=True
    ),
    "residual VQ, 25 Hz x 8 x 512": GEOMETRY["25 Hz x 8 x 512"],
    "product VQ, 25 Hz x 8 x 512": Variant(quantizer=ProductVectorConfig(num_codebooks=8)),
    "FSQ, 25 Hz x 8 x (8, 8, 8)": Variant(
        quantizer=FiniteScalarConfig(levels=(8, 8, 8), num_codebooks=8), spread=True
    ),
    "FSQ, 25 Hz x 8 x (16, 8, 4), projection learned": Variant(
        quantizer=FiniteScalarConfig(levels=(16, 8, 4), num_codebooks=8), spread=True, learns_projection=True
    ),
}
_R8 = residual(8, 512)
LOSSES = {
    "mean |d| alone": Variant(quantizer=_R8, loss=weighed_loss(squared=0.0, motion=0.0)),
    "+ squared": Variant(quantizer=_R8, loss=weighed_loss(squared=0.5, motion=0.0)),
    "+ squared + motion (today)": GEOMETRY["25 Hz x 8 x 512"],
    "+ squared + motion + audible": Variant(
        quantizer=_R8, loss=weighed_loss(squared=0.5, motion=0.5, audible=1.0)
    ),
    "+ squared + motion + cepstral": Variant(
        quantizer=_R8, loss=weighed_loss(squared=0.5, motion=0.5, cepstral=1.0)
    ),
}

FINE = Variant(quantizer=residual(8, 512, 96))
FINE_CODE = replace(CODE, num_steps=1600)
FINE_VOCODER = replace(SHARED, num_steps=500, mel_weight=2.0)
# Weights of the adversary and of its features; None: the shared vocoder as it is.
ADVERSARIES: dict[str, tuple[float, float] | None] = {
    "shared, no further step": None,
    "spectral": (0.0, 0.0),
    "spectral + adversary + features": (0.1, 1.0),
}


def new_tokenizer(config: SpeechTokenizerConfig) -> SpeechTokenizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(SEED, "weights"))
        return SpeechTokenizer(config)


@torch.no_grad()
def recording(shop: Workshop) -> tuple[Float[Tensor, "samples"], Float[Tensor, "frames features"]]:
    """All training clips one after the other, and their features."""
    path = shop.work / "recording.safetensors"
    if not path.exists():
        measure = SpeechFeatures(FEATURES)
        speakers = tuple(dict.fromkeys(row.speaker for row in read_rows(shop.clips)))
        clips = [waveform(shop.clips, row) for row in shop.rows("train", speakers)]
        clips = [nn.functional.pad(clip, (0, -len(clip) % 640)) for clip in clips]
        features = torch.cat([measure(clip[None])[0] for clip in clips])
        save_tensors(path, {"waveform": torch.cat(clips), "features": features}, kind="recording", config={})
    tensors = load_tensors(path, kind="recording").tensors
    return tensors["waveform"], tensors["features"]


def crops(
    whole: Float[Tensor, "samples"],
    features: Float[Tensor, "frames features"],
    config: SpeechTraining,
    stage: str,
) -> Iterator[SpeechCrops]:
    """Batches of crops at random frames of one long recording."""
    hop, size = FEATURES.hop, config.crop_frames
    for index in count():
        draw = rng.generator(SEED, "speech_tokenizer", stage, index)
        firsts = [int(first) for first in draw.integers(0, len(features) - size, config.batch_size)]
        yield SpeechCrops(
            waveform=torch.stack([whole[first * hop : (first + size) * hop] for first in firsts]),
            features=torch.stack([features[first : first + size] for first in firsts]),
        )


def run_steps(shop: Workshop, step: SpeechStep, config: SpeechTraining, stage: str) -> float:
    """`config.num_steps` updates; returns processor seconds."""
    whole, features = recording(shop)
    batches = crops(whole, features, config, stage)
    began = time.process_time()
    for i in range(config.num_steps):
        figures = step(next(batches))
        if i % 100 == 99:
            shown = ", ".join(f"{k} {float(v):.4f}" for k, v in figures.items())
            print(f"  {stage} {i + 1}: {shown} ({time.process_time() - began:.0f} s)", flush=True)
    return time.process_time() - began


def trained_code(
    shop: Workshop, name: str, variant: Variant, config: SpeechTraining
) -> tuple[SpeechTokenizer, float]:
    """A tokenizer whose code is trained (or was, in an earlier call), and the seconds that it took."""
    tokenizer, path = new_tokenizer(variant.config()), shop.model(name)
    if not path.exists():
        print(name, flush=True)
        code = tokenizer.autoencoder
        code.fit(recording(shop)[1], rng.generator(SEED, "fit"))
        if variant.spread:
            spread_components(code)
        if variant.learns_projection:
            code.analysis.requires_grad_(True)
        seconds = run_steps(shop, VariantCodeStep(tokenizer, config, variant.loss), config, "code")
        save_tensors(path, code.state_dict(), kind="code", config={}, seconds=str(seconds))
    artifact = load_tensors(path, kind="code")
    tokenizer.autoencoder.load_state_dict(artifact.tensors)
    return tokenizer.eval(), float(artifact.metadata["seconds"])


def through_features(
    shop: Workshop, tokenizer: SpeechTokenizer, name: str, *, per_clip: bool = False, mel: float = 0.0
) -> None:
    """Puts in a vocoder trained on features that went through no code (now, or in an earlier call)."""
    path = shop.model(name)
    if not path.exists():
        seconds = run_steps(
            shop, TrueFeaturesStep(tokenizer, SHARED, per_clip=per_clip, mel=mel), SHARED, "vocoder"
        )
        save_tensors(path, tokenizer.vocoder.state_dict(), kind="vocoder", config={}, seconds=str(seconds))
    tokenizer.vocoder.load_state_dict(load_tensors(path, kind="vocoder").tensors)


def shared_vocoder(shop: Workshop, tokenizer: SpeechTokenizer) -> None:
    """Puts in the vocoder that all variants of the code share."""
    maker = new_tokenizer(SpeechTokenizerConfig(features=FEATURES))
    through_features(shop, maker, "features today")
    tokenizer.vocoder.load_state_dict(maker.vocoder.state_dict())


def measure_codes(
    shop: Workshop, table: str, variants: dict[str, Variant], config: SpeechTraining, each: int
) -> None:
    """Trains and measures every variant; with `each`, also listens to that many test clips of every voice."""
    validation = shop.rows("validation")
    human = [row for row in validation if row.speaker == HUMAN]
    unseen = shop.rows("test", (UNSEEN_VOICE,), 40)
    test = shop.rows("test", each=each)
    figures = {}
    for name, variant in variants.items():
        tokenizer, seconds = trained_code(shop, name, variant, config)
        figures[name] = {
            "seconds": seconds,
            "parameters": sum(p.numel() for p in tokenizer.autoencoder.parameters()),
            "all": code_figures(shop, tokenizer, validation),
            "human": code_figures(shop, tokenizer, human),
            "unseen_human": code_figures(shop, tokenizer, unseen),
        }
        if each:
            shared_vocoder(shop, tokenizer)
            clips = heard(shop, "clips", test, original)
            after = heard(shop, f"shared {name}", test, round_trip(tokenizer))
            figures[name]["words"] = by_voice(test, clips, after)
        write_json(shop.work / "figures" / f"{table}.json", figures)
        print(_row(name, figures[name]), flush=True)


def geometry(shop: Workshop) -> None:
    measure_codes(shop, "geometry", GEOMETRY, CODE, 0)


def quantizers(shop: Workshop) -> None:
    measure_codes(shop, "quantizers", QUANTIZERS, CODE, 0)


def losses(shop: Workshop) -> None:
    measure_codes(shop, "losses", LOSSES, CODE, 0)


def codec2(shop: Workshop, each: int = 20) -> None:
    """Codec 2 at each of its rates."""
    rows = shop.rows("test", each=each)
    clips = heard(shop, "clips", rows, original)
    figures = {"no codec, 8 kHz": by_voice(rows, clips, heard(shop, "narrow", rows, narrow))}
    for rate in CODEC2_RATES:
        after = heard(shop, f"codec2 {rate}", rows, through_codec2(rate))
        figures[str(rate)] = by_voice(rows, clips, after)
        write_json(shop.work / "figures" / "codec2.json", figures)


def features(shop: Workshop) -> None:
    """Ceilings: vocoders on features that went through no code, one for each way to measure features."""
    quiet = SpeechFeaturesConfig(floor=2e-4)
    ways = {
        "today": (FEATURES, False, 0.0),
        "floor 2e-4, convergence per clip": (quiet, True, 0.0),
        "the same, window of 320": (replace(quiet, window=320), True, 0.0),
        "the same, window of 512, mel loss": (quiet, True, 2.0),
    }
    rows = shop.rows("test", ("awb", "kal16", "slt"), LISTENED)
    figures = {}
    for name, (config, per_clip, mel) in ways.items():
        tokenizer = new_tokenizer(SpeechTokenizerConfig(features=config))
        through_features(shop, tokenizer, f"features {name}", per_clip=per_clip, mel=mel)
        after = heard(shop, f"features {name}", rows, without_code(tokenizer))
        spectra = {
            voice: spectral_figures(
                shop, tokenizer, shop.rows("validation", (voice,), 15), without_code(tokenizer)
            )
            for voice in VOICES
        }
        words = by_voice(rows, heard(shop, "clips", rows, original), after)
        figures[name] = {"words": words, "spectra": spectra}
        write_json(shop.work / "figures" / "features.json", figures)


def recipe(shop: Workshop) -> SpeechTokenizer:
    """The tokenizer that all this is for: its code, then its vocoder on what comes back through the code."""
    tokenizer, code_seconds = trained_code(shop, "fine code", FINE, FINE_CODE)
    path = shop.work / "speech_fine.safetensors"
    if not path.exists():
        step = VocoderStep(tokenizer, FINE_VOCODER)
        seconds = run_steps(shop, step, FINE_VOCODER, "fine vocoder")
        tokenizer.save(path, half=True, seed=str(SEED), seconds=str(round(code_seconds + seconds)))
    return SpeechTokenizer.load(path)


def fine(shop: Workshop) -> None:
    """The whole tokenizer on all test clips, beside the shipped one and what its vocoder alone loses."""
    tokenizer = recipe(shop)
    rows = shop.rows("test", each=LISTENED)
    validation = shop.rows("validation")
    human = [row for row in validation if row.speaker == HUMAN]
    unseen = shop.rows("test", (UNSEEN_VOICE,), 40)
    shipped = SpeechTokenizer.load(SHIPPED)
    figures: dict[str, Any] = {
        "device": {k: v for k, v in describe().items() if k in ("device", "threads", "torch")},
        "code": {
            name: code_figures(shop, tokenizer, clips)
            for name, clips in (("all", validation), ("human", human), ("unseen_human", unseen))
        },
        "test_codes": code_figures(shop, tokenizer, rows)["codes"],
        "spectra": {
            voice: spectral_figures(
                shop, tokenizer, shop.rows("validation", (voice,), 15), round_trip(tokenizer)
            )
            for voice in VOICES
        },
    }
    clips = heard(shop, "clips", rows, original)
    figures["words"] = by_voice(rows, clips, heard(shop, "fine", rows, round_trip(tokenizer)))
    figures["ceiling"] = by_voice(rows, clips, heard(shop, "fine ceiling", rows, without_code(tokenizer)))
    figures["shipped"] = by_voice(rows, clips, heard(shop, "shipped", rows, round_trip(shipped)))
    quiet = [row for row in rows if row.speaker in ("awb", "kal16")]
    figures["louder"] = by_voice(
        quiet, clips, heard(shop, "fine louder", quiet, louder(round_trip(tokenizer)))
    )
    write_json(shop.work / "figures" / "fine.json", figures)


def vocoders(shop: Workshop) -> None:
    """Further steps of the shared vocoder on the fine code's features: spectral loss alone, or an adversary
    beside it.
    """
    tokenizer, _ = trained_code(shop, "fine code", FINE, FINE_CODE)
    code = tokenizer.autoencoder
    config = replace(SHARED, num_steps=200)
    rows, figures = shop.rows("test", each=20), {}
    clips = heard(shop, "clips", rows, original)
    for name, weights in ADVERSARIES.items():
        path, seconds = shop.model(f"vocoder {name}"), 0.0
        shared_vocoder(shop, tokenizer)
        if weights is not None and not path.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(rng.key(SEED, "adversary"))
                step = AdversarialStep(tokenizer, config, adversarial=weights[0], matching=weights[1])
            whole, measured = recording(shop)
            batches = crops(whole, measured, config, "adversary")
            began = time.process_time()
            for i in range(config.num_steps):
                batch = next(batches)
                with torch.no_grad():
                    decoded = code.features(
                        code.quantizer.decode(code.quantizer.encode(code.latent(batch.features)))
                    )
                shown = step(decoded, batch.waveform)
                if i % 50 == 49:
                    print(f"  {name} {i + 1}: {shown}", flush=True)
            seconds = time.process_time() - began
            tensors = tokenizer.vocoder.state_dict()
            save_tensors(path, tensors, kind="vocoder", config={}, seconds=str(seconds))
        if weights is not None:
            artifact = load_tensors(path, kind="vocoder")
            tokenizer.vocoder.load_state_dict(artifact.tensors)
            seconds = float(artifact.metadata["seconds"])
        after = heard(shop, f"vocoder {name}", rows, round_trip(tokenizer))
        figures[name] = {
            "seconds": seconds,
            "spectra": spectral_figures(
                shop, tokenizer, shop.rows("validation", each=15), round_trip(tokenizer)
            ),
            "words": by_voice(rows, clips, after),
        }
        write_json(shop.work / "figures" / "vocoders.json", figures)


def tables(shop: Workshop) -> None:
    """Gathers the figures in results.json and prints them as tables."""
    names = ("features", "geometry", "quantizers", "losses", "vocoders", "fine", "codec2")
    # Kept from calls that this program no longer makes: see the README.
    names += ("steady_pitch", "earlier")
    found = {name: shop.work / "figures" / f"{name}.json" for name in names}
    kept = Path(__file__).with_name("results.json")  # `listen.py` has blocks of its own there
    results = read_json(kept) | {name: read_json(path) for name, path in found.items() if path.exists()}
    write_json(kept, results)
    for table in ("geometry", "quantizers", "losses"):
        for name, row in results.get(table, {}).items():
            print(_row(name, row))
    words = {"fine": results.get("fine", {}).get("words", {})}
    words |= {f"fine {k}": results.get("fine", {}).get(k, {}) for k in ("ceiling", "shipped", "louder")}
    for table in ("features", "steady_pitch", "earlier", "vocoders"):
        words |= {f"{table} {name}": row["words"] for name, row in results.get(table, {}).items()}
    words |= {f"codec2 {name}": row for name, row in results.get("codec2", {}).items()}
    for system, groups in words.items():
        for voice, row in groups.items():
            shown = " | ".join(_interval(row[key]) for key in ("before", "after", "difference"))
            print(f"| {system} | {voice} | {row['clips']} | {row['words']} | {shown} |")


def _row(name: str, row: dict[str, Any]) -> str:
    whole, codes = row["all"], row["all"]["codes"]
    mels = " | ".join(f"{row[key]['mel_distance_nats']:.4f}" for key in ("all", "human", "unseen_human"))
    use = f"{sum(codes['dead_codes'])} dead of {len(codes['dead_codes'])} x …"
    bits = f"{codes['bits_per_second']:.0f} | {codes['entropy_bits_per_second']:.0f}"
    words = f" | {_interval(row['words']['all']['difference'])}" if "words" in row else ""
    pitch = f"{whole['pitch_error_percent']:.2f} | {whole['voicing_errors_percent']:.2f}"
    return f"| {name} | {bits} | {mels} | {pitch} | {use} | {row['seconds']:.0f}{words} |"


def _interval(figures: dict[str, float]) -> str:
    return f"{figures['value']:.1f} [{figures['low']:.1f}, {figures['high']:.1f}]"


STEPS = {
    step.__name__: step for step in (features, geometry, quantizers, losses, fine, vocoders, codec2, tables)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("data", *STEPS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--judge", type=Path, help="folder of a faster-whisper model")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--sounds", type=Path, default=Path("/usr"), help="where Asterisk's packages lie")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.step == "data":
        build(options.work / "clips", wordnet=options.wordnet, sounds=options.sounds)
    else:
        STEPS[options.step](Workshop(work=options.work, judge=options.judge))


if __name__ == "__main__":
    main()
