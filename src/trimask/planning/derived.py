"""Derive values from a recipe's stated ones, each with its rule, source and status."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch

from trimask.config.derived import OURS, PAPER, Derived
from trimask.model.denoiser import Denoiser
from trimask.model.parametrization import Row
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class TensorValues:
    """Initialization N(`init_mean`, `init_std`²) and optimizer values of a kind of tensor.

    Attributes:
        tensor: its name; all blocks have the same.
        factors: of the parametrization, on the optimizer's values.
        rules: the same as formulas.
        source: of the rules, and its status.
    """

    tensor: str
    role: str
    init_mean: float
    init_std: float
    learning_rate: float
    eps: float
    weight_decay: float
    factors: Mapping[str, float]
    rules: Mapping[str, str]
    source: str


def derived_values(config: RunConfig, *, target_tokens: int) -> Iterator[Derived]:
    """Yield the derived numbers of the run. `target_tokens`: of the whole horizon."""
    model, change = config.model, config.batch_change
    yield from model.parametrization.explain(width=model.width, depth=model.depth, head_dim=model.head_dim)
    yield Derived(
        name="horizon",
        value=change.horizon,
        rule=f"sequences: logical batch {config.logical_batch:,} × {config.num_steps:,} steps",
        source="stated",
    )
    yield Derived(
        name="updates",
        value=config.num_updates,
        rule=f"horizon / {change.batch:,} sequences per update (physical batch), rounded up",
        source=PAPER,
    )
    yield from config.batch_rule.explain(config.optimizer, change)
    yield Derived(
        name="token horizon",
        value=target_tokens,
        rule="target tokens of the horizon's sequences by the data's mean lengths, without end frames "
        "(`trimask plan` counts those too)",
        source="counted",
    )
    for phase, fraction in config.lr_schedule.phases().items():
        yield Derived(
            name=f"{phase} tokens",
            value=round(fraction * target_tokens),
            rule=f"{fraction:g} of the token horizon, whatever the batch; here "
            f"{fraction * config.num_updates:,.1f} updates",
            source=OURS,
        )


def tensor_values(config: RunConfig, vocabulary: Vocabulary) -> Iterator[TensorValues]:
    """Yield the values of each kind of tensor."""
    with torch.device("meta"):
        names = [name for name, _ in Denoiser(config.model, vocabulary).named_parameters()]
    optimizer, parametrization = config.scaled_optimizer, config.model.parametrization
    kinds = {re.sub(r"^blocks\.\d+\.", "blocks.*.", name).removesuffix(".weight"): name for name in names}
    for kind, name in kinds.items():
        rule = config.model.rule(name)
        row = parametrization.row(rule.role)
        yield TensorValues(
            tensor=kind,
            role=rule.role.value,
            init_mean=rule.init_mean,
            init_std=rule.init_std,
            learning_rate=optimizer.learning_rate * rule.learning_rate,
            eps=optimizer.eps * rule.eps,
            weight_decay=optimizer.weight_decay * rule.weight_decay,
            factors={
                "learning_rate": rule.learning_rate,
                "eps": rule.eps,
                "weight_decay": rule.weight_decay,
            },
            rules={name: str(getattr(row, name)) for name in Row.__slots__},
            source=parametrization.source,
        )
