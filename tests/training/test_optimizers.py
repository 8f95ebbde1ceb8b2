import copy

import pytest
import torch
from torch import nn

from trimask.training.optimizers import (
    AdamWConfig,
    ParameterFactors,
    build_adamw,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)

CONFIG = AdamWConfig(learning_rate=1e-2, weight_decay=0.1, eps=1e-6, clip_norm=0.5)


def _model() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def _backward(model: nn.Module, index: int) -> None:
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(index))
    model.zero_grad()
    model(inputs).square().mean().backward()


def _factors(name: str) -> ParameterFactors:
    return (
        ParameterFactors(learning_rate=0.5, eps=4.0, weight_decay=2.0)
        if "weight" in name
        else ParameterFactors()
    )


def _update(model: nn.Module, optimizer: torch.optim.AdamW, indices: range) -> None:
    for index in indices:
        set_learning_rate(optimizer, 1 / (1 + index))
        _backward(model, index)
        clip_gradients(optimizer, CONFIG.clip_norm)
        optimizer.step()


def test_equals_the_textbook_update_with_factors() -> None:
    model, twin = _model(), _model()
    optimizer = build_adamw(parameter_groups(model.named_parameters(), _factors), CONFIG)
    _update(model, optimizer, range(6))

    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in twin.named_parameters()}
    for index in range(6):
        _backward(twin, index)
        norm = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None]).norm()
        for name, p in twin.named_parameters():
            assert p.grad is not None
            factors = _factors(name)
            gradient = p.grad * min(1.0, 0.5 / (float(norm) + 1e-6))
            first, second = moments[name]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.95).add_(0.05 * gradient**2)
            rate = 1e-2 * factors.learning_rate / (1 + index)
            direction = (first / (1 - 0.9 ** (index + 1))) / (
                (second / (1 - 0.95 ** (index + 1))).sqrt() + 1e-6 * factors.eps
            )
            p.data = p.data * (1 - rate * 0.1 * factors.weight_decay) - rate * direction
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_equals_torchs_own_adamw_without_factors() -> None:
    model, twin = _model(), _model()
    optimizer = build_adamw(parameter_groups(model.named_parameters()), CONFIG)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
    for index in range(6):
        for net, adamw in ((model, optimizer), (twin, plain)):
            _backward(net, index)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adamw.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_groups_share_factors_and_leave_out_frozen_tensors() -> None:
    model = _model()
    next(model.parameters()).requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), _factors)
    assert [[name for name, _ in group.parameters] for group in groups] == [
        ["0.bias", "2.bias"],
        ["2.weight"],
    ]


def test_state_round_trip_continues_exactly() -> None:
    model = _model()
    optimizer = build_adamw(parameter_groups(model.named_parameters(), _factors), CONFIG)
    _update(model, optimizer, range(3))
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    assert set(saved) == {
        f"{n}.{s}" for n, _ in model.named_parameters() for s in ("step", "exp_avg", "exp_avg_sq")
    }

    restored = copy.deepcopy(model)
    # Other groups, so another order: names decide, not positions.
    other = build_adamw(parameter_groups(reversed(list(restored.named_parameters())), _factors), CONFIG)
    load_optimizer_tensors(other, saved)
    _update(model, optimizer, range(3, 6))
    _update(restored, other, range(3, 6))
    for p, q in zip(model.parameters(), restored.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_a_state_of_another_model_is_refused() -> None:
    model = _model()
    optimizer = build_adamw(parameter_groups(model.named_parameters()), CONFIG)
    with pytest.raises(ValueError, match="that the model lacks: head"):
        load_optimizer_tensors(optimizer, {"head.step": torch.tensor(1.0)})
    tensors = optimizer_tensors(optimizer)
    for wrong in ({"0.bias.step": torch.ones(2)}, {}):
        rest = {name: tensor for name, tensor in tensors.items() if name != "0.bias.step"}
        with pytest.raises(ValueError, match=r"0\.bias is incomplete or has another shape than \(8,\)"):
            load_optimizer_tensors(optimizer, rest | wrong)


def test_the_state_before_the_first_step_is_where_it_starts() -> None:
    model = _model()
    optimizer = build_adamw(parameter_groups(model.named_parameters()), CONFIG)
    first = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    assert set(first) == {
        f"{n}.{s}" for n, _ in model.named_parameters() for s in ("step", "exp_avg", "exp_avg_sq")
    }
    before = copy.deepcopy(model.state_dict())
    _update(model, optimizer, range(3))
    after = copy.deepcopy(model.state_dict())
    model.load_state_dict(before)
    load_optimizer_tensors(optimizer, first)
    _update(model, optimizer, range(3))
    assert all(torch.equal(after[name], tensor) for name, tensor in model.state_dict().items())


def test_clipping_returns_the_norm_before() -> None:
    model = _model()
    optimizer = build_adamw(parameter_groups(model.named_parameters()), CONFIG)
    _backward(model, 0)
    before = clip_gradients(optimizer, None)
    assert clip_gradients(optimizer, 0.5) == before > 0.5
    assert float(clip_gradients(optimizer, None)) == pytest.approx(0.5, rel=1e-4)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="beta2 is out of range"):
        AdamWConfig(learning_rate=1e-3, beta2=1.0)
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_adamw((), CONFIG)
