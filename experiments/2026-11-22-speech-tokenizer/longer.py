"""`python longer.py RUN OUT [--steps N] [--mel WEIGHT] [--adversarial WEIGHT --matching WEIGHT]`: more
vocoder steps after a finished training, its code as it was. Leaves OUT/speech.safetensors, for `listen.py
--run OUT`.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from variants import AdversarialStep

from trimask.config import from_dict
from trimask.data.signals import Concatenation, Signals
from trimask.io import read_json
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.training.optimizers import AdamWConfig
from trimask.training.speech_tokenizer import (
    Recording,
    SpeechCrops,
    SpeechTokenizerRun,
    VocoderStep,
    speech_batches,
)

SEED = 1  # the crops of seed 0 are those that the run has seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--mel", type=float, default=2.0)
    parser.add_argument("--adversarial", type=float, default=0.0)
    parser.add_argument("--matching", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = from_dict(SpeechTokenizerRun, read_json(options.run / "config.json")["run"])
    optimizer = AdamWConfig(learning_rate=1e-3, beta2=0.98, weight_decay=0.01)
    vocoder = replace(run.vocoder, num_steps=options.steps, mel_weight=options.mel, optimizer=optimizer)
    tokenizer = SpeechTokenizer.load(options.run / "speech.safetensors").train()
    recording = Recording(
        waveform=Concatenation(Signals(options.run / "data" / "frames.arrow")),
        features=Concatenation(Signals(options.run / "data" / "features.arrow")),
        hop=run.tokenizer.features.hop,
    )
    step: Callable[[SpeechCrops], Mapping[str, Tensor | float]] = VocoderStep(tokenizer, vocoder)
    if options.adversarial or options.matching:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            adversary = AdversarialStep(
                tokenizer, vocoder, adversarial=options.adversarial, matching=options.matching
            )

        def against(batch: SpeechCrops) -> Mapping[str, Tensor | float]:
            code = tokenizer.autoencoder
            with torch.no_grad():
                codes = code.quantizer.encode(code.latent(batch.features))
                decoded = code.features(code.quantizer.decode(codes))
            return adversary(decoded, batch.waveform)

        step = against
    batches = speech_batches(recording, code=run.code, vocoder=vocoder, seed=SEED)(run.code.num_steps)
    means: dict[str, float] = {}
    for number in range(1, options.steps + 1):
        for name, value in step(next(batches)).items():
            means[name] = 0.99 * means.get(name, float(value)) + 0.01 * float(value)
        if number % 100 == 0:
            print(number, {name: round(value, 4) for name, value in means.items()}, flush=True)
    tokenizer.save(options.out / "speech.safetensors", half=True)


if __name__ == "__main__":
    main()
