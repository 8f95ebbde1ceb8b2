"""Slow obvious twins of the denoiser's passes and of the variable-length kernel, and batches for them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from narrow import blocks_of
from trimask import rng
from trimask.model.attention import AttentionBackend, QKNorm
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.rope import rotary_angles, rotate
from trimask.model.segments import ConditionAttention
from trimask.vocabulary.batch import Batch, make_batch
from vocabulary.test_sequence_batch import SPANS, V, example

FULL, PREFIX = ConditionAttention
CONFIG = DenoiserConfig(width=16, depth=2, num_heads=2)


def denoiser_with(
    attention: ConditionAttention,
    backend: AttentionBackend = AttentionBackend.LOOP,
    qk_norm: QKNorm = QKNorm.RMS,
) -> Denoiser:
    """In float64, of weights and gains that are all drawn."""
    denoiser = Denoiser(replace(CONFIG, condition_attention=attention, qk_norm=qk_norm), V)
    draw = rng.generator(0, "weights")
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            values = draw.standard_normal(tuple(parameter.shape)) * 0.3
            parameter.copy_(torch.from_numpy(values + float(name.endswith("norm.weight"))))
    denoiser.attention_backend = backend
    return denoiser.double().eval()


def batch_of(documents: Sequence[tuple[int, int]]) -> Batch:
    """Of (number in `SPANS`, frames or letters), texts packed into rows."""
    sequences = [
        example(*SPANS[kind], seed=seed, num_frames=frames) for seed, (kind, frames) in enumerate(documents)
    ]
    return make_batch(sequences, range(len(sequences)), row_length=80)


def tokens_of(batch: Batch, seed: int) -> Tensor:
    """The batch's tokens with some of the targets masked."""
    hidden = torch.from_numpy(rng.generator(seed, "hidden").random(batch.tokens.shape)) < 0.5
    mask_id = torch.from_numpy(V.mask_of_range)[batch.range_index]
    return torch.where(hidden & batch.maskable, mask_id, batch.tokens)


def document_of(batch: Batch) -> list[int]:
    """Document of each position."""
    lengths = batch.cu_positions.diff()
    return torch.arange(len(lengths)).repeat_interleave(lengths).tolist()


def in_prefix(batch: Batch) -> list[bool]:
    """Whether each position is one of a condition or before it, or its close boundary."""
    documents = document_of(batch)
    last = {documents[p]: p for p in sorted(batch.position[batch.is_condition].tolist())}
    return [p <= last.get(documents[p], -math.inf) + 1 for p in range(batch.num_positions)]


class SlowPasses:
    """The denoiser over `batch`, which attends position by position, and the keys and values that it last
    computed of each.
    """

    def __init__(self, denoiser: Denoiser, batch: Batch):
        self.denoiser, self.batch = denoiser, batch
        documents, prefix = document_of(batch), in_prefix(batch)
        is_prefix = denoiser.config.condition_attention is PREFIX
        places = range(batch.num_positions)
        self.seen = [
            [b for b in places if documents[a] == documents[b] and not (is_prefix and prefix[a] > prefix[b])]
            for a in places
        ]
        self.keys: list[dict[int, Tensor]] = [{} for _ in denoiser.blocks]
        self.values: list[dict[int, Tensor]] = [{} for _ in denoiser.blocks]

    def __call__(self, tokens: Tensor, active: Sequence[int]) -> Tensor:
        config, embedding = self.denoiser.config, self.denoiser.embedding.weight
        h = torch.stack([embedding[tokens[self.batch.position == p]].sum(0) for p in active])
        angles = rotary_angles(self.batch.coordinates[list(active)], config.head_dim, config.rope_base)
        multiplier = config.parametrization.residual_multiplier(config.depth)
        for block, keys, values in zip(blocks_of(self.denoiser), self.keys, self.values, strict=True):
            attention = block.attention
            projected = attention.qkv(block.attention_norm(h))
            q, k, v = projected.view(len(active), 3, config.num_heads, config.head_dim).unbind(1)
            if config.qk_norm is QKNorm.RMS:
                q, k = attention.q_norm(q), attention.k_norm(k)
            queries = rotate(q, *angles)
            keys |= dict(zip(active, rotate(k, *angles), strict=True))
            values |= dict(zip(active, v, strict=True))
            attended = []
            for p, query in zip(active, queries, strict=True):
                seen_keys = torch.stack([keys[b] for b in self.seen[p]])
                seen_values = torch.stack([values[b] for b in self.seen[p]])
                weights = ((query * seen_keys).sum(-1) / config.head_dim**0.5).softmax(0)
                attended.append((weights[:, :, None] * seen_values).sum(0).flatten())
            h = h + multiplier * attention.out(torch.stack(attended))
            h = h + multiplier * block.feed_forward(block.feed_forward_norm(h))
        return self.denoiser.final_norm(h)


def slow_kernel(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, key_ends: Tensor, longest: int, longest_keys: int
) -> Tensor:
    """What `varlen_attn` computes of each segment."""
    assert ends.dtype == key_ends.dtype == torch.int32 and len(ends) == len(key_ends)
    assert (int(ends[-1]), int(key_ends[-1])) == (len(q), len(k)) and len(k) == len(v)
    assert ends.diff().max() <= longest and key_ends.diff().max() <= longest_keys
    segments = zip(
        q.tensor_split(ends[1:-1].tolist()),
        k.tensor_split(key_ends[1:-1].tolist()),
        v.tensor_split(key_ends[1:-1].tolist()),
        strict=True,
    )
    return torch.cat(
        [
            torch.einsum(
                "hqk,khd->qhd", (torch.einsum("qhd,khd->hqk", a, b) * a.shape[2] ** -0.5).softmax(-1), c
            )
            for a, b, c in segments
        ]
    )


@contextmanager
def kernel_on_cpu() -> Iterator[None]:
    """The variable-length kernel has no CPU form: the slow one stands in for it."""
    with patch("torch.nn.attention.varlen.varlen_attn", slow_kernel):
        yield
