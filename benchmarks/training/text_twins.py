"""Text against an autoregressive twin: the same network, blocks and data under a causal mask.

    python -m benchmarks.training.text_twins --updates 1000 8700 --out RESULT.json

Bits per byte of the same held-out passages, by models of one size:

- the shipped one, which learned three modalities (a NELBO: its own bits are at most these);
- `masked`, trained here on its text alone (a NELBO), its loss weighted as the shipped run weights it;
- `masked, exact bound`, the same with the NELBO itself as the loss;
- `autoregressive`, trained here on its text alone, each token from those before it (exact).

All twins see the same sequences in the same order, with the shipped run's optimizer, precision and batch,
under a schedule that falls to 2 % at the end, at each rate and number of updates: the best counts. The
greatest number of `--updates` of 16 sequences should make their data and their compute those of the shipped
model's text; smaller ones show where a twin begins to overfit. An update of each runs all positions forward
and backward. The same command goes on after the last twin that its RESULT.json has.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import trimask
from trimask import rng
from trimask.data.choice import choose
from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.source import ExampleSource
from trimask.data.source_names import SPEECHES
from trimask.data.stream import TrainingStream, target_ends
from trimask.estimate import ratio
from trimask.evaluation.likelihood import sequence_nelbo
from trimask.model.attention import Attention, Documents
from trimask.model.block import Block
from trimask.model.denoiser import Denoiser
from trimask.runs.build import build_denoiser, build_step, build_stream
from trimask.runs.embedded_tokens import load_encoded, write_encoded
from trimask.runs.load import load_config_of
from trimask.tokenizers.bundle import Tokenizers
from trimask.training.compute import Precision
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import clip_gradients, set_learning_rate
from trimask.training.run import RunConfig
from trimask.training.step import DenoiserStep
from trimask.training.weighting import Bound
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.sequence import Sequence as Document
from trimask.vocabulary.sequence import build_sequence

TASK = "text"
TWINS = ("autoregressive", "masked", "masked, exact bound")


def attend_to_the_left(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """Attend as `trimask.model.attention.attend`, but each query to its own position and those before it."""
    sizes = [run.count * run.length for run in documents.runs]
    outputs = []
    for run, *parts in zip(documents.runs, *(x.float().split(sizes) for x in (q, k, v)), strict=True):
        alike = [part.unflatten(0, (run.count, run.length)).transpose(1, 2) for part in parts]
        attended = F.scaled_dot_product_attention(alike[0], alike[1], alike[2], is_causal=True)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).to(q.dtype)


def make_causal(denoiser: Denoiser) -> Denoiser:
    """Let all blocks attend to the left alone."""
    for block in denoiser.blocks:
        assert isinstance(block, Block) and isinstance(block.attention, Attention)
        block.attention.attend = attend_to_the_left
    return denoiser


def next_token_nats(denoiser: Denoiser, batch: Batch) -> Tensor:
    """Return −log p of each target given all to its left, in row-major order of the targets."""
    targets = batch.maskable
    at = batch.position[targets] - 1  # in text every slot has its own position, and none is the first
    hidden = denoiser(batch.tokens, batch).index_select(0, at)
    (index,) = set(batch.range_index[targets].tolist())
    codes = batch.tokens[targets] - denoiser.vocabulary.ranges[index].start
    return F.cross_entropy(denoiser.logits(hidden, index).float(), codes, reduction="none")


@torch.no_grad()
def sequence_nats(denoiser: Denoiser, documents: Sequence[Document]) -> np.ndarray:
    """Return −log p of each document's targets under a causal denoiser."""
    found: list[float] = []
    for start in range(0, len(documents), 16):
        some = documents[start : start + 16]
        batch = make_batch(some, range(len(some)))
        nats = next_token_nats(denoiser, batch)
        each = torch.zeros(batch.maskable.shape).masked_scatter(batch.maskable, nats)
        found += each.double().sum(1).tolist()
    return np.array(found)


def update_causally(step: DenoiserStep, batch: Batch, targets: float, *, is_half: bool = False) -> float:
    """Take one update of the autoregressive twin, with products in bf16 if `is_half`; return its loss in nats
    per target token.
    """
    set_learning_rate(step.optimizer, step.lr_schedule.factor((step.step + 1) / step.num_steps))
    step.optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        nats = next_token_nats(step.denoiser, batch)
    (nats.sum() / (len(batch.tokens) * targets)).backward()
    clip_gradients(step.optimizer, step.optimizer_config.clip_norm)
    step.optimizer.step()
    step.step += 1
    if step.average is not None:
        step.average.update(step.step)
    return float(nats.detach().mean())


def text_alone(shipped: RunConfig, *, updates: int, rate: float, is_exact: bool = False) -> RunConfig:
    """Return the shipped run's configuration for its text alone, with the NELBO as the loss if `is_exact`."""
    assert isinstance(shipped.data, QuickstartData)
    return replace(
        shipped,
        data=replace(shipped.data, readings=None, num_concepts=8, num_sentences=8),
        mixture=MixtureConfig(components=(Component(source=SPEECHES, task=TASK, weight=1.0),)),
        objective=ObjectiveConfig(
            condition_dropout=0.0, weighting=Bound() if is_exact else shipped.objective.weighting
        ),
        modalities={name: replace(row, weight=1.0) for name, row in shipped.modalities.items()},
        optimizer=replace(shipped.optimizer, learning_rate=rate),
        lr_schedule=WarmupCosine(warmup_fraction=0.03, final_fraction=0.02),
        average=None,
        num_steps=updates,
    )


def train(config: RunConfig, denoiser: Denoiser, stream: TrainingStream, *, is_causal: bool) -> float:
    """Train a twin; return its seconds."""
    step = build_step(config, denoiser, stream)
    targets = sum(stream.target_tokens())  # of text: there is no other
    is_half = config.compute.precision is Precision.BF16
    began = time.monotonic()
    for number in range(config.num_steps):
        batch = stream.batch(number)
        if is_causal:
            bits = update_causally(step, batch, targets, is_half=is_half) / math.log(2)
        else:
            bits = float(step(batch)["text_bits_per_token"])
        if number % 100 == 0:
            print(f"update {number}: {bits:.2f} bits a token, {time.monotonic() - began:.0f} s", flush=True)
    return time.monotonic() - began


def held_out(config: RunConfig, source: ExampleSource, denoiser: Denoiser, number: int) -> list[Document]:
    """Return passages as the scorecard builds them."""
    vocabulary, documents = denoiser.vocabulary, []
    for place, index in enumerate(choose(source, number, 0)):
        codes = source.example(index)
        uniforms = rng.generator(0, "scorecard", "slack", place).random(len(vocabulary.spaces))
        ends = target_ends(
            config.slack, vocabulary, TASK, codes, uniforms, text_window=config.data.text_window
        )
        documents.append(build_sequence(vocabulary, TASK, codes, num_end=ends))
    return documents


def rows_so_far(given: argparse.Namespace) -> dict[str, Any]:
    """Return the rows of RESULT.json, which must be of the same model, passages and seed."""
    if given.out is None or not given.out.exists():
        return {}
    told = json.loads(given.out.read_text(encoding="utf-8"))
    for name in ("run", "passages", "seed"):
        if told["command"][name] != getattr(given, name):
            raise SystemExit(
                f"{given.out} has rows of --{name} {told['command'][name]}, not of {getattr(given, name)}: "
                "name another --out, or repeat that value."
            )
    return told["found"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="quickstart")
    parser.add_argument("--twins", nargs="+", choices=TWINS, default=TWINS)
    parser.add_argument("--updates", type=int, nargs="+", default=[1000, 8700])
    parser.add_argument("--rates", type=float, nargs="+", default=[1.5e-3, 3e-3])
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shipped = replace(load_config_of(given.run), seed=given.seed)
    tokenizers = Tokenizers.load()
    with tempfile.TemporaryDirectory() as folder:
        config = text_alone(shipped, updates=given.updates[0], rate=given.rates[0])
        assert isinstance(config.data, QuickstartData)
        write_encoded(config.data, tokenizers, Path(folder) / "tokens", ("train", "validation"))
        training, unseen = (load_encoded(Path(folder) / "tokens", split) for split in ("train", "validation"))
        model: Any = trimask.load(given.run).predictor
        documents = held_out(config, unseen[SPEECHES], model.denoiser, given.passages)
        sizes = [
            len(tokenizers.text.decode(unseen[SPEECHES].example(i)["text"][:, 0].tolist()).encode())
            for i in choose(unseen[SPEECHES], given.passages, 0)
        ]

        def per_byte(nats: np.ndarray) -> dict[str, Any]:
            return ratio(nats / math.log(2), np.array(sizes, dtype=np.float64)).as_json()

        def bounds(each: Denoiser) -> np.ndarray:
            return sequence_nelbo(each, documents, seed=0)[TASK]

        found = rows_so_far(given)
        found[given.run] = {"bits_per_byte": per_byte(bounds(model.denoiser))}
        print(given.run, found[given.run]["bits_per_byte"], flush=True)
        for name, updates, rate in product(given.twins, given.updates, given.rates):
            key = f"{name}, {updates} updates, rate {rate:g}"
            if key in found:
                continue
            config = text_alone(shipped, updates=updates, rate=rate, is_exact=name.endswith("bound"))
            denoiser = build_denoiser(config, model.vocabulary)
            is_causal = name == "autoregressive"
            if is_causal:
                make_causal(denoiser)
            stream = build_stream(config, training, model.vocabulary)
            seconds = train(config, denoiser, stream, is_causal=is_causal)
            nats = sequence_nats(denoiser, documents) if is_causal else bounds(denoiser)
            found[key] = {"bits_per_byte": per_byte(nats), "seconds": seconds}
            print(key, found[key], flush=True)
            if given.out is not None:
                told = {"command": vars(given) | {"out": None}, "torch": torch.__version__, "found": found}
                given.out.write_text(json.dumps(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
