"""Complete(d)P against its table written out again, the start against the one before there was a table, and
what both are for: activations and their changes that do not depend on the size.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from narrow import blocks_of
from trimask import rng
from trimask.config import from_dict, to_dict
from trimask.model.attention import AttentionBackend, Documents
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.model.parametrization import CompletedP, Parametrization, Role, Standard, role_of
from trimask.training.corruption import ObjectiveConfig, View
from trimask.training.logical_batch import rescale
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.step import DenoiserStep
from trimask.vocabulary.batch import Batch, make_batch
from vocabulary.test_sequence_batch import SPANS, V, example

# Table 1 of Complete(d)P (arXiv 2512.22382), a second time:
# role -> (init variance, learning rate, ε, weight decay) of (m_N, m_L, α).
TABLE = {
    "input embedding": lambda n, d, a: (1, 1, 1 / n, 1),
    "hidden weight": lambda n, d, a: (1 / n, d ** (a - 1) / n, 1 / (n * d**a), n),
    "hidden vector": lambda n, d, a: (1, d ** (a - 1), 1 / (n * d**a), 1),
    "QK-norm gain": lambda n, d, a: (1, d ** (a - 1), 1 / d**a, 1),
    "final norm gain": lambda n, d, a: (1, 1, 1, 1),
    "unembedding": lambda n, d, a: (1 / n**2, 1 / n, 1, n),
}
ROLES = {
    "embedding.weight": "input embedding",
    "blocks.{}.attention_norm.weight": "hidden vector",
    "blocks.{}.attention.qkv.weight": "hidden weight",
    "blocks.{}.attention.out.weight": "hidden weight",
    "blocks.{}.attention.q_norm.weight": "QK-norm gain",
    "blocks.{}.attention.k_norm.weight": "QK-norm gain",
    "blocks.{}.feed_forward_norm.weight": "hidden vector",
    "blocks.{}.feed_forward.gate_up.weight": "hidden weight",
    "blocks.{}.feed_forward.down.weight": "hidden weight",
    "final_norm.weight": "final norm gain",
    "unembedding.weight": "unembedding",
}
HEAD_DIM = 16


def config(width: int, depth: int, parametrization: Parametrization) -> DenoiserConfig:
    return DenoiserConfig(
        width=width, depth=depth, num_heads=width // HEAD_DIM, parametrization=parametrization
    )


def base(width: int = 32, depth: int = 2, alpha: float = 1.0) -> CompletedP:
    return CompletedP(base_width=width, base_depth=depth, base_num_heads=width // HEAD_DIM, alpha=alpha)


def named(depth: int) -> dict[str, str]:
    return {
        pattern.format(block): role
        for pattern, role in ROLES.items()
        for block in range(depth if "{}" in pattern else 1)
    }


def starting_variance(name: str, width: int, depth: int) -> float:
    """At the base: 1 / fan_in, and residual outputs over 2 · depth."""
    if name == "embedding.weight":
        return 1.0
    if name.endswith(("norm.weight", "unembedding.weight")):
        return 0.0
    hidden = -(-8 * width // 96) * 32  # 8/3 · width, rounded up to 32
    variance = 1 / (hidden if ".down." in name else width)
    return variance / (2 * depth) if ".down." in name or ".out." in name else variance


@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("width", [16, 32, 48, 256])
def test_each_tensor_follows_the_table(width: int, depth: int, alpha: float) -> None:
    model = config(width, depth, base(alpha=alpha))
    m_l = depth / 2
    for name, role in named(depth).items():
        m_n = (-(-8 * width // 96) * 32) / 96 if ".down." in name else width / 32
        variance, rate, eps, decay = TABLE[role](m_n, m_l, alpha)
        rule = model.rule(name)
        assert rule.role.value == role
        assert rule.init_mean == (1 if name.endswith("norm.weight") else 0)
        assert rule.init_std**2 == pytest.approx(variance * starting_variance(name, 32, 2))
        assert (rule.learning_rate, rule.eps, rule.weight_decay) == pytest.approx((rate, eps, decay))
    assert model.parametrization.residual_multiplier(depth) == pytest.approx(m_l**-alpha)


@pytest.mark.parametrize("kappa", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(("width", "depth", "alpha"), [(32, 2, 1.0), (64, 3, 0.5), (16, 1, 0.8)])
def test_the_optimizer_has_the_tables_values(width: int, depth: int, alpha: float, kappa: float) -> None:
    """Rate, betas, ε and decay of every tensor, as AdamW gets them: the table times the row of the batch."""
    stated = AdamWConfig(learning_rate=3e-3, beta1=0.9, beta2=0.95, eps=1e-7, weight_decay=0.2)
    step = make_step(config(width, depth, base(alpha=alpha)), rescale(stated, kappa))
    names = set()
    for group in step.optimizer.param_groups:
        for name in group["param_names"]:
            m_n = (-(-8 * width // 96) * 32) / 96 if ".down." in name else width / 32
            _, rate, eps, decay = TABLE[named(depth)[name]](m_n, depth / 2, alpha)
            assert group["base_learning_rate"] == pytest.approx(3e-3 * rate * math.sqrt(kappa))
            assert group["eps"] == pytest.approx(1e-7 * eps / math.sqrt(kappa))
            assert group["weight_decay"] == pytest.approx(0.2 * decay * math.sqrt(kappa))
            assert group["betas"] == pytest.approx((0.9**kappa, 0.95**kappa))
            names.add(name)
    assert names == set(named(depth))


def test_every_tensor_has_a_role_and_a_stranger_has_none() -> None:
    denoiser = Denoiser(config(32, 3, Standard()), V)
    roles = {name: role_of(name).value for name, _ in denoiser.named_parameters()}
    assert roles == named(3)
    assert set(roles.values()) == {role.value for role in Role}
    for stranger in ("blocks.0.adapter.weight", "blocks.0.attention.qkv.bias", "weight", ""):
        with pytest.raises(ValueError, match=f"the tensor {stranger} has no role"):
            role_of(stranger)


@pytest.mark.parametrize("parametrization", [Standard(), base(48, 3)])
def test_the_base_starts_as_it_always_did(parametrization: Parametrization) -> None:
    """Bit for bit: what the shipped models and the recorded runs started from."""
    denoiser = Denoiser(config(48, 3, parametrization), V)
    denoiser.initialize(5)
    for name, parameter in denoiser.named_parameters():
        if name.endswith("norm.weight"):
            expected = torch.ones_like(parameter)
        elif name == "unembedding.weight":
            expected = torch.zeros_like(parameter)
        else:
            scale = 1.0 if name == "embedding.weight" else parameter.shape[1] ** -0.5
            if name.endswith(("attention.out.weight", "feed_forward.down.weight")):
                scale /= math.sqrt(2 * 3)
            draw = rng.generator(5, "init", name).standard_normal(tuple(parameter.shape), dtype="float32")
            expected = torch.from_numpy(draw) * scale
        assert torch.equal(parameter, expected), name
        rule = denoiser.config.rule(name)
        assert (rule.learning_rate, rule.eps, rule.weight_decay) == (1, 1, 1)
    assert all(block.residual_multiplier == 1 for block in denoiser.blocks)


@given(first=st.sampled_from([1, 2, 3, 4]), second=st.sampled_from([1, 2, 3, 4]), alpha=st.floats(0.5, 1.0))
def test_going_by_way_of_another_size_changes_nothing(first: int, second: int, alpha: float) -> None:
    """Values carried from 96 × 2 to an intermediate size, and from there on, are carried there directly."""
    between, last = config(96 * first, 2 * first, base()), (96 * first * second, 2 * first * second)
    there = base(96, 2, alpha)
    onward = base(between.width, between.depth, alpha)
    for name in named(1):
        one = there.rule(name, width=between.width, depth=between.depth)
        two = onward.rule(name, width=last[0], depth=last[1])
        direct = there.rule(name, width=last[0], depth=last[1])
        for part in ("learning_rate", "eps", "weight_decay"):
            assert getattr(one, part) * getattr(two, part) == pytest.approx(getattr(direct, part))


def test_a_stored_size_without_a_parametrization_is_the_usual() -> None:
    stored = to_dict(config(32, 2, Standard()))
    del stored["parametrization"]
    assert from_dict(DenoiserConfig, stored) == config(32, 2, Standard())
    carried = config(64, 4, base(alpha=0.75))
    assert from_dict(DenoiserConfig, to_dict(carried)) == carried


def test_another_width_keeps_the_heads_dimension() -> None:
    small = config(32, 2, base())
    large = small.resized(width=128, depth=8)
    assert (large.width, large.depth, large.num_heads, large.head_dim) == (128, 8, 8, HEAD_DIM)
    assert large.parametrization == small.parametrization and small.resized() == small
    with pytest.raises(ValueError, match="width 40 is not a multiple of the head dimension 16"):
        small.resized(width=40)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 64}, "width 64 with num_heads 2.*16: use num_heads 4"),
        ({"width": 72, "num_heads": 3}, "use a width that is a multiple of 16"),
        ({"parametrization": "alpha"}, r"alpha 0\.4"),
        ({"parametrization": "depth"}, "base_depth 0"),
        ({"parametrization": "heads"}, "base_width 32 is not a multiple of base_num_heads 3"),
    ],
)
def test_errors_name_the_value(fields: dict[str, Any], message: str) -> None:
    def made() -> DenoiserConfig:
        if fields.get("parametrization") == "alpha":
            return replace(config(32, 2, base()), parametrization=replace(base(), alpha=0.4))
        if fields.get("parametrization") == "depth":
            return replace(config(32, 2, base()), parametrization=replace(base(), base_depth=0))
        if fields.get("parametrization") == "heads":
            return replace(config(32, 2, base()), parametrization=replace(base(), base_num_heads=3))
        return replace(config(32, 2, base()), **fields)

    with pytest.raises(ValueError, match=message):
        made()


def mixed_batch() -> Batch:
    sequences = [example(task, spans, seed=k) for k, (task, spans) in enumerate(SPANS)] * 3
    return make_batch(sequences, range(len(sequences)))


@torch.inference_mode()
def test_branches_are_multiplied() -> None:
    """One block of a network four times as deep as its base: h + ¼ · attention, then + ¼ · feed-forward."""
    whole, quarter = (Denoiser(config(32, 4, p), V) for p in (base(depth=4), base(depth=1)))
    whole.initialize(1)
    quarter.load_state_dict(whole.state_dict())
    h = torch.from_numpy(rng.generator(0, "h").standard_normal((5, 32), dtype="float32"))
    angles = {"cos": torch.ones(5, 1, HEAD_DIM // 2), "sin": torch.zeros(5, 1, HEAD_DIM // 2)}
    documents = Documents.of(torch.tensor([0, 5]), AttentionBackend.LOOP, h.device)
    block = blocks_of(whole)[0]
    middle = h + block.attention(block.attention_norm(h), **angles, documents=documents) / 4
    expected = middle + block.feed_forward(block.feed_forward_norm(middle)) / 4
    torch.testing.assert_close(quarter.blocks[0](h, **angles, documents=documents), expected)


def make_step(model: DenoiserConfig, optimizer: AdamWConfig, seed: int = 0) -> DenoiserStep:
    denoiser = Denoiser(model, V)
    denoiser.initialize(seed)
    return DenoiserStep(
        denoiser,
        objective=ObjectiveConfig(condition_dropout=0.0),
        optimizer=optimizer,
        lr_schedule=WarmupCosine(warmup_fraction=0.0, final_fraction=1.0),
        num_steps=100,
        seed=0,
        targets=(5.0, 5.0, 5.0),
        tasks={task for task, _ in SPANS},
    )


@torch.no_grad()
def stream(denoiser: Denoiser, batch: Batch) -> Tensor:
    """The residual stream after the last block."""
    inputs: list[Tensor] = []
    hook = denoiser.final_norm.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    denoiser(batch.tokens, batch)
    hook.remove()
    return inputs[0]


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def coordinates(model: DenoiserConfig) -> tuple[float, float, float]:
    """Size of the stream at the start; its change in three updates; how much they lower the loss in nats.

    The last stands for the logits, which are all 0 at the start: it moves with those of the right tokens.
    """
    batch, found = mixed_batch(), []
    for seed in range(2):
        step = make_step(model, AdamWConfig(learning_rate=4e-3, clip_norm=None), seed)
        view = step.passes.corruption.views(batch, 0)[0]

        @torch.no_grad()
        def loss(step: DenoiserStep = step, view: View = view) -> float:
            return float(step.denoiser.cross_entropy(view.z_t, batch, view.masked).mean())

        before, first = stream(step.denoiser, batch), loss()
        for _ in range(3):
            step(batch)
        found.append((rms(before), rms(stream(step.denoiser, batch) - before), first - loss()))
    start, moved, learned = torch.tensor(found).mean(0).tolist()
    return start, moved, learned


def test_activations_and_updates_do_not_depend_on_the_size() -> None:
    """Four times the width, four times the depth. The usual values are too large for the wide network."""
    start, moved, learned = coordinates(config(32, 2, base()))
    for width, depth in ((128, 2), (32, 8)):
        other = coordinates(config(width, depth, base()))
        assert other[0] == pytest.approx(start, rel=0.1), (width, depth)
        assert 0.6 < other[1] / moved < 1.6, (width, depth, other[1], moved)
        assert other[2] == pytest.approx(learned, rel=0.15), (width, depth)
    _, usual_moved, usual_learned = coordinates(config(128, 2, Standard()))
    assert usual_moved > 1.9 * moved and usual_learned > 1.5 * learned
