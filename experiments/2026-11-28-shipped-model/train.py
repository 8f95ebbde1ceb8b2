"""The run of the model that ships: `python train.py --readings DIR --out RUN [--weights FILE]`; the same
command goes on with it, and SIGTERM or Ctrl-C lets it write a checkpoint.

DIR: what `python -m trimask.data.quickstart.readings --out DIR` wrote. FILE: weights to start from.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.recipes.pretrain import pretrain
from trimask.recipes.quickstart import quickstart
from trimask.recipes.tokens import EMOJI, SPEECHES, SPOKEN, TRIPLES
from trimask.sampling.length import LengthPolicy
from trimask.training.average import WeightAverageConfig
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupStableDecay
from trimask.training.run import RunConfig
from trimask.training.weighting import PowerOfBound
from trimask.vocabulary.alignment import ConstantRate
from trimask.vocabulary.modality import Task

# Of 100 sequences, and about how many target tokens each has: the mixture counts in tokens.
SHARES = (
    (EMOJI, Task.TEXT_TO_IMAGE, 26, 128),
    (SPOKEN, Task.TEXT_TO_SPEECH, 40, 266),
    (EMOJI, Task.IMAGE_TO_TEXT, 8, 6.4),
    (SPOKEN, Task.SPEECH_TO_TEXT, 12, 41),
    (SPEECHES, Task.TEXT, 10, 98.6),
    (EMOJI, Task.JOINT, 1, 134),
    (SPOKEN, Task.JOINT, 1, 307),
    (TRIPLES, Task.TRIPLE, 2, 258),
)
NUM_STEPS = 150_000
POLICY = LengthPolicy()


def shipped(readings: Path) -> RunConfig:
    base = quickstart()
    components = tuple(
        Component(source=source, task=task, weight=share * targets / 1000)
        for source, task, share, targets in SHARES
    )
    return replace(
        base,
        data=QuickstartData(num_concepts=600, readings=readings),
        # Captions of people have up to 25 variants: their pictures are drawn by the root of their number.
        mixture=MixtureConfig(components=components, group_exponent=0.5),
        objective=ObjectiveConfig(
            weighting=PowerOfBound(exponent=0.5),
            modality_weights=(4.0, 1.0, 1.2),
            codebook_weights=((), (), (1.0, 0.3, 0.3, 0.3)),
        ),
        optimizer=replace(base.optimizer, learning_rate=1.5e-3, clip_norm=0.5),
        # Constant: how long it can go on is not known beforehand.
        lr_schedule=WarmupStableDecay(warmup_fraction=0.01, decay_fraction=0.15, final_fraction=0.02),
        average=WeightAverageConfig(half_life=16 * 2500),
        alignment=ConstantRate(
            frames_per_token=POLICY.frames_per_character,
            lead=POLICY.silence_frames / 2 - len("slt: ") * POLICY.frames_per_character,
        ),
        num_steps=NUM_STEPS,
        log_every=50,
        checkpoint_every=250,
        evaluate_every=2500,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--tokens", type=Path, help="of an earlier start on the same data, to encode nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = pretrain(
        shipped(arguments.readings.resolve()),
        arguments.out,
        recipe="quickstart",
        weights=arguments.weights,
        tokens=arguments.tokens,
        resume=(arguments.out / "config.json").exists(),
        report=lambda message: print(time.strftime("%H:%M:%S"), message, file=sys.stderr, flush=True),
    )
    print(result)


if __name__ == "__main__":
    main()
