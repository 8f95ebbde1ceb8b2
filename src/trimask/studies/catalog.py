"""The studies by name: ours, or a function of a user's own. Listing ours imports none of them."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimask import modules
from trimask.errors import UserError
from trimask.recipes.catalog import first_sentence, purpose_in

if TYPE_CHECKING:
    from trimask.studies.question import Question

STUDIES = ("coordinate_check", "lr_transfer", "batch_invariance", "horizon", "sampling")
"""Each has a module of its name here, with a function of its name and one of its short form."""


def purpose(name: str) -> str:
    """Return the first sentence of a study's docstring; the name of a user's study without one."""
    if modules.is_own(name):
        return first_sentence(inspect.getdoc(modules.load(name)) or modules.label(name))
    return purpose_in(Path(__file__).with_name(f"{name}.py"), name)


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
    study: Callable[[], Question[Any]] = getattr(importlib.import_module(f"trimask.studies.{name}"), short)
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
