"""The studies by name: ours, or a function of a user's own. Listing ours imports none of them."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trimask
from trimask import modules
from trimask.errors import UserError
from trimask.recipes.catalog import first_sentence, purpose_in

if TYPE_CHECKING:
    from trimask.studies.question import Question

STUDIES: Mapping[str, str] = MappingProxyType(
    {
        "coordinate_check": "questions.coordinate_check.study",
        "lr_transfer": "questions.lr_transfer",
        "batch_invariance": "questions.batch_invariance",
        "horizon": "questions.horizon",
        "mixing": "questions.mixing.study",
        "scaling": "questions.scaling.study",
        "schedules": "questions.schedules.study",
        "anti_masking": "questions.anti_masking.study",
        "ablations": "questions.ablations.study",
        "triples": "questions.triples.study",
        "sampling": "tuning.plans",
    }
)
"""The module of each, in this package, which has a function of the study's name and one of its short form."""


def purpose(name: str) -> str:
    """Return the first sentence of a study's docstring; the name of a user's study without one."""
    if modules.is_own(name):
        return first_sentence(inspect.getdoc(modules.load(name)) or modules.label(name))
    path = Path(trimask.__file__).parent.joinpath(*STUDIES[name].split(".")).with_suffix(".py")
    return purpose_in(path, name)


def resolve_study(name: str, *, is_short: bool) -> "Question[Any]":
    """Return the study, or its short form (minutes on a laptop).

    Raises:
        UserError: a user's study fails, or returns something else.
    """
    short = f"{name}_short" if is_short else name
    if modules.is_own(name):
        if is_short:
            _check_short(name)
        kind = importlib.import_module("trimask.studies.question").Question
        return modules.call(short, (kind,), "a Study")
    study: Callable[[], Question[Any]] = getattr(importlib.import_module(f"trimask.{STUDIES[name]}"), short)
    return study()


def _check_short(name: str) -> None:
    """Raise UserError if the user's study has no short form."""
    modules.load(name)
    try:
        modules.load(f"{name}_short")
    except UserError as error:
        where, _, what = name.rpartition(":")
        raise UserError(
            f"{name} has no short form: --short calls {what}_short in {where}, a function that returns the "
            "same Study with fewer or shorter trials; write one, or leave --short out"
        ) from error
