"""The coordinates against a denoiser that is written out step by step."""

import numpy as np
import pytest
import torch

from narrow import blocks_of
from trimask.model.attention import AttentionBackend, Documents
from trimask.model.block import Block
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.rope import rotary_angles
from trimask.questions.coordinate_check.coordinates import (
    ATTENTION,
    EMBEDDING,
    FEED_FORWARD,
    STREAM,
    TARGET,
    Coordinates,
    measure_coordinates,
)
from trimask.training.corruption import Corruption, ObjectiveConfig, View
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.codebooks import Parallel
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.sequence import build_sequence

VOCABULARY = Vocabulary(
    spaces=(
        CodeSpace(name="text", num_codebooks=1, codebook_size=10, has_end=True),
        CodeSpace(name="image", num_codebooks=2, codebook_size=6, has_end=False, grid=(2, 2)),
        CodeSpace(name="speech", num_codebooks=1, codebook_size=5, has_end=True),
    ),
    layouts={"image": Parallel()},
)
MULTIPLIER = 0.5


def halved() -> Denoiser:
    """A denoiser whose residual multiplier is not 1, to see that branches are taken before it."""
    denoiser = Denoiser(DenoiserConfig(width=16, depth=2, num_heads=2), VOCABULARY)
    denoiser.initialize(0)
    torch.nn.init.normal_(denoiser.unembedding.weight, generator=torch.Generator().manual_seed(0))
    for block in blocks_of(denoiser):
        block.residual_multiplier = MULTIPLIER
    return denoiser


def masked() -> tuple[Batch, View]:
    draw = np.random.default_rng(0)
    text = {"text": draw.integers(0, 10, (5, 1))}
    image = {"text": draw.integers(0, 10, (3, 1)), "image": draw.integers(0, 6, (4, 2))}
    sequences = [
        build_sequence(VOCABULARY, "text", text, num_end={"text": 1}),
        build_sequence(VOCABULARY, "text_to_image", image, num_end={}),
    ]
    batch = make_batch(sequences, [0, 1])
    corruption = Corruption(ObjectiveConfig(), VOCABULARY, seed=3, device=torch.device("cpu"))
    return batch, corruption.views(batch, 4)[0]


def rms(values: list[torch.Tensor]) -> float:
    return float(torch.cat([v.flatten() for v in values]).double().square().mean().sqrt())


@torch.no_grad()
def test_each_coordinate_is_what_the_network_computes():
    denoiser = halved()
    batch, view = masked()
    found = measure_coordinates(denoiser, batch, view)
    assert set(found.activations) == {"text", "image"}
    real = batch.position >= 0
    h = torch.zeros(batch.num_positions, 16).index_add(
        0, batch.position[real], denoiser.embedding(view.z_t[real])
    )
    cos, sin = rotary_angles(batch.coordinates, 8, denoiser.config.rope_base)
    documents = Documents.of(batch.cu_positions, AttentionBackend.LOOP, h.device)
    embedded, attended, fed = h, [], []
    for block in denoiser.blocks:
        assert isinstance(block, Block)
        attended.append(block.attention(block.attention_norm(h), cos=cos, sin=sin, documents=documents))
        h = h + MULTIPLIER * attended[-1]
        fed.append(block.feed_forward(block.feed_forward_norm(h)))
        h = h + MULTIPLIER * fed[-1]
    for modality in ("text", "image"):
        inside = [r.index for r in VOCABULARY.ranges_of(modality)]
        slots = [(i, j) for i, j in view.masked.nonzero().tolist() if int(batch.range_index[i, j]) in inside]
        places = [int(batch.position[slot]) for slot in slots]
        sizes = {
            EMBEDDING: rms([embedded[p] for p in places]),
            ATTENTION: rms([a[p] for p in places for a in attended]),
            FEED_FORWARD: rms([f[p] for p in places for f in fed]),
            STREAM: rms([h[p] for p in places]),
        }
        logits = []
        for slot, place in zip(slots, places, strict=True):
            token_range = VOCABULARY.ranges[int(batch.range_index[slot])]
            all_logits = denoiser.unembedding(denoiser.final_norm(h[place]))[
                token_range.start : token_range.stop
            ]
            logits.append(all_logits[int(batch.tokens[slot]) - token_range.start] - all_logits.mean())
        sizes[TARGET] = rms(logits)
        for name, size in sizes.items():
            assert found.sizes()[f"{modality}/{name}"] == pytest.approx(size, rel=1e-5), name


def test_change_is_the_size_of_the_difference():
    denoiser = halved()
    batch, view = masked()
    before = measure_coordinates(denoiser, batch, view)
    assert set(measure_coordinates(denoiser, batch, view).change(before).values()) == {0.0}
    with torch.no_grad():
        denoiser.embedding.weight.mul_(1.5)
    after: Coordinates = measure_coordinates(denoiser, batch, view)
    name = f"text/{EMBEDDING}"
    assert after.change(before)[name] == pytest.approx(0.5 * before.sizes()[name], rel=1e-5)
