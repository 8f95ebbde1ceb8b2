"""What a recipe's stated values become, each with its rule, its source and how well that is established."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from trimask.config.derived import OURS, PAPER, Derived
from trimask.model.denoiser import Denoiser
from trimask.model.parametrization import Row
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary


def derived(config: RunConfig, vocabulary: Vocabulary, *, target_tokens: int) -> dict[str, Any]:
    """All derived values of a run as JSON: numbers of the run, the rule of each kind of tensor, cautions.

    `target_tokens`: of the whole horizon.
    """
    return {
        "values": [asdict(value) for value in _values(config, target_tokens)],
        "tensors": _tensors(config, vocabulary),
        "cautions": list(config.batch_rule.cautions(config.batch_change)),
    }


def derived_lines(described: Mapping[str, Any]) -> Iterator[str]:
    """As `derived` gives it, for reading."""
    yield "derived values"
    for row in described["values"]:
        yield f"  {row['name']:<20} {_number(row['value']):>12}   {row['rule']}: {row['source']}"
    heads = f"{'init std':>10} {'peak rate':>10} {'ε':>10} {'decay':>10}"
    yield f"{'tensors':<34} {'role':<16} {heads}   × on rate; ε; decay"
    for row in described["tensors"]:
        start = f"{row['init_mean']:g} ± " * bool(row["init_mean"]) + _number(row["init_std"])
        others = (_number(row[name]) for name in ("learning_rate", "eps", "weight_decay"))
        figures = " ".join(f"{figure:>10}" for figure in (start, *others))
        rules = "; ".join(row["rules"][name] for name in ("learning_rate", "eps", "weight_decay"))
        yield f"  {row['tensor']:<32} {row['role']:<16} {figures}   {rules}"
    for caution in described["cautions"]:
        yield f"caution         {caution}"


def _values(config: RunConfig, target_tokens: int) -> Iterator[Derived]:
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
        rule="target tokens of the horizon's sequences, from the data's mean lengths",
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


def _tensors(config: RunConfig, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """A row for each kind of tensor: all blocks have the same."""
    with torch.device("meta"):
        names = [name for name, _ in Denoiser(config.model, vocabulary).named_parameters()]
    optimizer, rows = config.scaled_optimizer, {}
    for name in names:
        kind = re.sub(r"^blocks\.\d+\.", "blocks.*.", name).removesuffix(".weight")
        rule = config.model.rule(name)
        rows[kind] = {
            "tensor": kind,
            "role": rule.role.value,
            "init_mean": rule.init_mean,
            "init_std": rule.init_std,
            "learning_rate": optimizer.learning_rate * rule.learning_rate,
            "eps": optimizer.eps * rule.eps,
            "weight_decay": optimizer.weight_decay * rule.weight_decay,
            "factors": {
                "learning_rate": rule.learning_rate,
                "eps": rule.eps,
                "weight_decay": rule.weight_decay,
            },
            "rules": _formulas(config.model.parametrization.row(rule.role)),
            "source": config.model.parametrization.source,
        }
    return list(rows.values())


def _formulas(row: Row) -> dict[str, str]:
    return {name: str(getattr(row, name)) for name in Row.__slots__}


def _number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
