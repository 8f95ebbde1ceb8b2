"""What it costs that conditions attend to themselves alone: two arms that differ in nothing else.

`python experiments/2026-11-29-condition-attention/run.py --seed SEED --work DIR` trains both and writes
seed-SEED.json beside this file. Started again it resumes.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trimask import devices
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN
from trimask.evaluation.likelihood import sequence_nelbo
from trimask.model.denoiser import Denoiser
from trimask.model.segments import ConditionAttention
from trimask.model.weights import load_denoiser
from trimask.recipes.quickstart import quickstart_mini, quickstart_short
from trimask.runs.kinds import kind_of
from trimask.runs.pretrain import MODEL, TOKENS, pretrain
from trimask.runs.validation import draw_sequences
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.run import RunConfig
from trimask.vocabulary.batch import Batch
from trimask.vocabulary.sequence import Sequence

NUM_HELD_OUT = 400
NUM_MASKS = 4
TASKS = (
    ("text_to_image", EMOJI),
    ("image_to_text", EMOJI),
    ("text_to_speech", SPOKEN),
    ("speech_to_text", SPOKEN),
    ("text", SPEECHES),
)


def arm(attention: ConditionAttention, *, seed: int, num_steps: int) -> RunConfig:
    """The size of `quickstart_mini` on more data: 600 concepts, and every sentence of one voice."""
    config = quickstart_mini()
    return replace(
        config,
        seed=seed,
        model=replace(config.model, condition_attention=attention),
        data=QuickstartData(num_concepts=600, voices=("slt",)),
        mixture=quickstart_short().mixture,
        logical_batch=16,
        num_steps=num_steps,
        log_every=50,
        checkpoint_every=500,
        evaluate_every=1_000_000,
    )


class Frozen(Denoiser):
    """Computes the prefix of each document once, while all targets are masked, and never again."""

    def forward(
        self, tokens: Tensor, batch: Batch, at: Tensor | None = None, **given: object
    ) -> Tensor:  # the interface of Denoiser, of which `cross_entropy` gives the first two
        assert at is None and not given
        masks = torch.from_numpy(self.vocabulary.mask_of_range)
        cache = self.empty_cache(batch)
        super().forward(torch.where(batch.maskable, masks[batch.range_index], tokens), batch, cache=cache)
        starts = batch.cu_positions[:-1].repeat_interleave(batch.cu_positions.diff())
        prefix = batch.prefix_length.repeat_interleave(batch.cu_positions.diff())
        active = (torch.arange(batch.num_positions) - starts >= prefix).nonzero()[:, 0]
        hidden = super().forward(tokens, batch, cache=cache, active=active)
        return hidden.new_zeros(batch.num_positions, hidden.shape[1]).index_copy(0, active, hidden)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-steps", type=int, default=1200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs, seconds, tokens = {}, {}, None
    for attention in ConditionAttention:
        out = arguments.work / attention.value
        config = arm(attention, seed=arguments.seed, num_steps=arguments.num_steps)
        done = pretrain(config, out, recipe=attention.value, tokens=tokens, resume=out.exists(), report=say)
        if done.steps < config.num_updates:
            raise SystemExit(f"{out} was interrupted: start again to resume")
        runs[attention], seconds[attention.value] = config, round(done.seconds)
        tokens = out / TOKENS
    denoisers = {each: load_denoiser(arguments.work / each.value / MODEL) for each in ConditionAttention}
    full, prefix = denoisers[ConditionAttention.FULL], denoisers[ConditionAttention.PREFIX]
    frozen = Frozen(full.config, full.vocabulary)
    frozen.load_state_dict(full.state_dict())
    tasks = {}
    for task, source in TASKS:
        sequences = held_out(runs[ConditionAttention.FULL], arguments.work, task, source, full)
        nats = {
            name: nelbo(denoiser, sequences)
            for name, denoiser in (("full", full), ("prefix", prefix), ("full, frozen", frozen))
        }
        tasks[task] = {"sequences": len(sequences)} | summary(nats, sequences)
        say(f"{task}: {json.dumps(tasks[task])}")
    results = {
        "device": devices.describe(torch.device("cpu")),
        "seed": arguments.seed,
        "num_steps": arguments.num_steps,
        "seconds": seconds,
        "nats_per_target": tasks,
    }
    Path(__file__).with_name(f"seed-{arguments.seed}.json").write_text(json.dumps(results, indent=2) + "\n")


def say(message: str) -> None:
    if message:
        print(message, flush=True)


def held_out(config: RunConfig, work: Path, task: str, source: str, denoiser: Denoiser) -> list[Sequence]:
    """Each example of the validation split once, at most `NUM_HELD_OUT`."""
    tokens = work / ConditionAttention.FULL.value / TOKENS
    sources = kind_of(config.data).sources(Tokenizers.load(), "validation", tokens)
    number = min(len(sources[source]), NUM_HELD_OUT)
    mixture = MixtureConfig(
        components=(Component(source=source, task=task, weight=1.0),), block_length=number, group_exponent=1.0
    )
    return draw_sequences(config, mixture, sources, denoiser.vocabulary, number=number)


def nelbo(denoiser: Denoiser, sequences: list[Sequence]) -> np.ndarray:
    """Nats of each sequence; masks are the same for every model."""
    return np.sum(list(sequence_nelbo(denoiser, sequences, seed=0, num_masks=NUM_MASKS).values()), axis=0)


def summary(nats: dict[str, np.ndarray], sequences: list[Sequence]) -> dict[str, object]:
    """NELBO in nats per target, and differences to full attention with the standard error of the pairs."""
    counts = np.array([sequence.maskable.sum() for sequence in sequences])

    def per_target(values: np.ndarray) -> dict[str, float]:
        mean = values.sum() / counts.sum()
        error = math.sqrt(((values - mean * counts) ** 2).sum()) / counts.sum()
        return {"mean": round(float(mean), 4), "se": round(float(error), 4)}

    found: dict[str, object] = {name: per_target(values) for name, values in nats.items()}
    for name, values in nats.items():
        if name != "full":
            found[f"{name} − full"] = per_target(values - nats["full"])
    return found


if __name__ == "__main__":
    main()
