"""docs/method.md says what the code computes: its formulas are evaluated, its tables compared."""

import math
import re
from pathlib import Path
from types import CodeType

import numpy as np
import pytest
import torch

from trimask.diffusion.schedule import (
    Cosine,
    Geometric,
    Linear,
    LogLinear,
    Polynomial,
    Schedule,
    Tabulated,
)
from trimask.model.parametrization import COMPLETED_P, Parametrization
from trimask.sampling import grid
from trimask.sampling.corrector import Corrector
from trimask.sampling.count import Count
from trimask.sampling.filters import Filter
from trimask.sampling.grid import Shifted, TimeGrid, Uniform
from trimask.sampling.guidance import GuidanceRamp
from trimask.sampling.length import LengthRule
from trimask.sampling.order import DrawnOrder, EvidenceOrder, FixedOrder, Order
from trimask.sampling.recompute import Recompute
from trimask.training.logical_batch import BatchRule
from trimask.training.reduction import Reduction
from trimask.training.times import TimeDraw
from trimask.training.weighting import Weighting
from trimask.vocabulary.alignment import TextAlignment
from trimask.vocabulary.codebooks import CodebookLayout

PAGE = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
CHOICES = (
    Schedule,
    Weighting,
    Reduction,
    TimeDraw,
    Parametrization,
    BatchRule,
    CodebookLayout,
    TextAlignment,
    TimeGrid,
    Order,
    Count,
    Corrector,
    Recompute,
    LengthRule,
    Filter,
    GuidanceRamp,
)
SCHEDULES = (
    Linear(),
    Polynomial(exponent=0.7),
    Polynomial(exponent=2.0),
    Cosine(),
    Geometric(),
    LogLinear(),
    Tabulated(edges=(0.0, 0.2, 0.5, 1.0), densities=(3.0, 2.0, 1.0)),
)
PARAMETERS = {"exponent": "k", "sigma_min": "σ_min", "sigma_max": "σ_max", "eps": "ε"}


def rows(first: str) -> list[list[str]]:
    """The cells of the table's rows whose head begins with `first`."""
    table = PAGE.split(f"\n| {first} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def compiled(formula: str) -> CodeType:
    for sign, word in {"−": "-", "·": "*", "^": "**", "σ'": "dσ"}.items():
        formula = formula.replace(sign, word)
    return compile(formula, formula, "eval")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedules_are_as_their_formulas_say(schedule: Schedule) -> None:
    formulas = {row[0].strip("`"): row[1:3] for row in rows("schedule")}
    alpha, weight = map(compiled, formulas[type(schedule).__name__])
    values = {PARAMETERS[name]: getattr(schedule, name) for name in PARAMETERS if hasattr(schedule, name)}
    known = values | {"π": math.pi, "exp": math.exp, "cos": math.cos, "tan": math.tan}
    for t in (0.05, 0.3, 0.5, 0.9, 0.99):
        here = known | {"t": t}
        if isinstance(schedule, Geometric):
            sigma = schedule.sigma_min ** (1 - t) * schedule.sigma_max**t
            here |= {"σ": sigma, "dσ": sigma * math.log(schedule.sigma_max / schedule.sigma_min)}
        if isinstance(schedule, Tabulated):
            masses = np.array(schedule.densities) * np.diff(schedule.edges)
            shares = [0.0, *np.cumsum(masses / masses.sum())]
            ratio = np.interp(t, shares, schedule.edges)
            place = np.searchsorted(shares, t) - 1
            here |= {"m": ratio, "p": schedule.densities[place] / masses.sum()}
        at = torch.tensor(t, dtype=torch.float64)
        assert eval(alpha, here) == pytest.approx(float(schedule.alpha(at)), rel=1e-9)
        assert eval(weight, here) == pytest.approx(float(schedule.loss_weight(at)), rel=1e-9)


def test_all_schedules_are_compared() -> None:
    assert {type(schedule).__name__ for schedule in SCHEDULES} == ours(Schedule)
    assert {row[0].strip("`") for row in rows("schedule")} == ours(Schedule)


def test_the_table_of_completed_p_is_that_of_the_code() -> None:
    table = {
        role.value: [str(each) for each in (row.init_variance, row.learning_rate, row.eps, row.weight_decay)]
        for role, row in COMPLETED_P.items()
    }
    assert {name: cells for name, *cells in rows("tensor")} == table


@pytest.mark.parametrize("chosen", [Uniform(), grid.Cosine(), Shifted(shift=3.0)], ids=repr)
def test_time_grids_are_as_their_formulas_say(chosen: TimeGrid) -> None:
    (formula,) = [row[1] for row in rows("grid") if row[0].strip("`") == type(chosen).__name__]
    known = {"π": math.pi, "cos": math.cos, "c": getattr(chosen, "shift", None)}
    for step, time in enumerate(chosen.times(5)):
        assert eval(compiled(formula), known | {"d": step / 5}) == pytest.approx(float(time), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "interface"),
    [
        ("grid", TimeGrid),
        ("order", Order),
        ("count", Count),
        ("corrector", Corrector),
        ("length", LengthRule),
    ],
)
def test_the_tables_of_samplers_have_each_choice(first: str, interface: type) -> None:
    assert {row[0].strip("`") for row in rows(first)} == ours(interface)


def test_each_order_is_of_its_kind() -> None:
    kinds = {name.strip("`"): kind for name, _, kind, _ in rows("order")}
    of_each = {"fixed": FixedOrder, "evidence": EvidenceOrder, "drawn": DrawnOrder}
    assert kinds == {name: kind for kind, cls in of_each.items() for name in ours(cls)}


def ours(interface: type) -> set[str]:
    """Names of trimask's classes that may stand for `interface`; tests make others."""
    found = [each for each in interface.__subclasses__() if each.__module__.startswith("trimask.")]
    return {each.__name__ for each in found if "__final__" in vars(each)}.union(*map(ours, found))


@pytest.mark.parametrize("interface", CHOICES, ids=lambda each: each.__name__)
def test_each_choice_is_named(interface: type) -> None:
    assert ours(interface)
    assert not [name for name in ours(interface) if f"`{name}`" not in PAGE]


def test_each_mark_is_explained_and_no_other_is_used() -> None:
    explained = {row[0] for row in rows("mark")}
    used = {f"[{mark}]" for mark in re.findall(r"\[([A-Z]\??)[\]:]", PAGE)}
    assert used == explained
