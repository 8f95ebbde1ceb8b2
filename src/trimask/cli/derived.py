"""What a recipe's stated values become, each with its rule, its source and how well that is established."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from trimask.model.denoiser import Denoiser
from trimask.model.parametrization import CompletedP, Row
from trimask.training.logical_batch import KappaRule, critical_batch
from trimask.training.lr_schedule import WarmupCosine, WarmupStableDecay
from trimask.training.run import RunConfig
from trimask.vocabulary.layout import Vocabulary

_TABLE_1 = "Complete(d)P, arXiv 2512.22382, Table 1 [L]"
_PAPER = "arXiv 2602.21472 [P]"
_OURS = "ours [D]"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """A number that follows from others. `source` ends with its status: [P] the paper, [L] other literature,
    [D] our decision.
    """

    name: str
    value: float | int
    rule: str
    source: str


def derived(config: RunConfig, vocabulary: Vocabulary, *, target_tokens: int) -> dict[str, Any]:
    """All derived values of a run as JSON: numbers of the run, the rule of each kind of tensor, cautions.

    `target_tokens`: of the whole horizon.
    """
    values = [*_size(config), *_batch(config), *_schedule(config, target_tokens)]
    return {
        "values": [asdict(value) for value in values],
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


def _size(config: RunConfig) -> Iterator[Derived]:
    model, parametrization = config.model, config.model.parametrization
    if not isinstance(parametrization, CompletedP):
        return
    yield Derived(
        name="m_N",
        value=model.width / parametrization.base_width,
        rule=f"width {model.width} / {parametrization.base_width} of the base, head dimension held at "
        f"{model.head_dim}",
        source=_TABLE_1,
    )
    yield Derived(
        name="m_L",
        value=parametrization.depth_ratio(model.depth),
        rule=f"depth {model.depth} / {parametrization.base_depth} of the base",
        source=_TABLE_1,
    )
    yield Derived(
        name="residual multiplier",
        value=parametrization.residual_multiplier(model.depth),
        rule=f"m_L^-α with α = {parametrization.alpha:g}",
        source=_TABLE_1,
    )


def _batch(config: RunConfig) -> Iterator[Derived]:
    change, rule = config.batch_change, config.batch_rule
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
        source=_PAPER,
    )
    if isinstance(rule, KappaRule):
        yield Derived(
            name="κ",
            value=rule.kappa(change),
            rule=f"(D_base / D)^γ · B / B_base = ({change.base_horizon:,} / {change.horizon:,})"
            f"^{rule.gamma:g} · {change.batch:,} / {change.base_batch:,}",
            source=_PAPER,
        )
        yield Derived(
            name="critical batch",
            value=critical_batch(change.horizon, rule.critical_steps),
            rule=f"D / (L · S_crit), S_crit = {rule.critical_steps:,} [D]",
            source=_PAPER,
        )
    formulas = (
        {
            "learning_rate": ("× √κ", _PAPER),
            "beta1": ("^κ", _PAPER),
            "beta2": ("^κ", _PAPER),
            "eps": ("/ √κ", _PAPER),
            "weight_decay": ("× √κ", f"{_OURS}, from Complete(d)P's table"),
        }
        if isinstance(rule, KappaRule)
        else {}
    )
    for name in ("learning_rate", "beta1", "beta2", "eps", "weight_decay"):
        how, source = formulas.get(name, (f"by {type(rule).__name__}", "to compare with"))
        stated = getattr(config.optimizer, name)
        yield Derived(
            name=name,
            value=getattr(config.scaled_optimizer, name),
            rule=f"{stated:g} {how}",
            source=source,
        )


def _schedule(config: RunConfig, target_tokens: int) -> Iterator[Derived]:
    yield Derived(
        name="token horizon",
        value=target_tokens,
        rule="target tokens of the horizon's sequences, from the data's mean lengths",
        source="counted",
    )
    schedule = config.lr_schedule
    if isinstance(schedule, WarmupCosine | WarmupStableDecay):
        fraction = schedule.warmup_fraction
        yield Derived(
            name="warm-up tokens",
            value=round(fraction * target_tokens),
            rule=f"{fraction:g} of the token horizon, whatever the batch; here "
            f"{fraction * config.num_updates:,.1f} updates",
            source=_OURS,
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
            "source": _TABLE_1 if isinstance(config.model.parametrization, CompletedP) else "the usual [L]",
        }
    return list(rows.values())


def _formulas(row: Row) -> dict[str, str]:
    return {name: str(getattr(row, name)) for name in Row.__slots__}


def _number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
