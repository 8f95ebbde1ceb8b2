"""The laws by name: ours, or a class of a user's own."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from trimask import modules
from trimask.errors import UserError
from trimask.laws.fitting import Law

LAWS: Mapping[str, str] = MappingProxyType(
    {
        "scaling": "scaling:Chinchilla",
        "mixing": "mixing:Exponential",
        "additive_mixing": "mixing:Additive",
    }
)
"""The module of each in this package, and its class."""


def resolve_law(name: str, columns: Sequence[str], options: Mapping[str, str]) -> Law:
    """Return the law `name` of a table with `columns` besides the loss.

    Args:
        name: one of `LAWS`, or a user's own class, mine.py:Name or package.module:Name.
        options: numbers by name, for fields of the law.

    Raises:
        UserError: a user's class fails or is no law; an option that it does not have; a column that the law
        has
            no use for, or one that it needs and the table lacks.
    """
    kind = _load(name)
    law = _make(
        kind, modules.label(name), columns, {each: _number(each, text) for each, text in options.items()}
    )
    unused = [each for each in columns if each not in law.inputs]
    missing = [each for each in law.inputs if each not in columns]
    needed = f"{modules.label(name)} is a law of {', '.join(law.inputs)}"
    if missing:
        raise UserError(f"{needed}: name the column of {missing[0]} too, {missing[0]}=NAME")
    if unused:
        raise UserError(f"{needed}, and has no use for {unused[0]}: leave it out")
    return law


def _load(name: str) -> type[Law]:
    if modules.is_own(name):
        found = modules.load(name)
        if not (isinstance(found, type) and issubclass(found, Law)):
            raise UserError(f"{modules.label(name)} is no law: name a subclass of trimask.laws.fitting.Law")
        return found
    if name not in LAWS:
        raise UserError(f"unknown law {name!r}: choose one of {', '.join(LAWS)}, or your own, mine.py:Class")
    where, _, what = LAWS[name].partition(":")
    return getattr(importlib.import_module(f"trimask.laws.{where}"), what)


def _make(kind: type[Law], name: str, columns: Sequence[str], options: Mapping[str, float]) -> Law:
    unknown = [each for each in options if each not in kind.options()]
    if unknown:
        known = ", ".join(f"--{each}" for each in kind.options()) or "none"
        raise UserError(f"{name} has no option --{unknown[0]}: its options are {known}")
    if not modules.is_own(name):
        return kind.for_columns(columns, **options)
    file = name.rpartition(":")[0]
    with modules.run_user_code(modules.label(name), Path(file) if file.endswith(".py") else None):
        return kind.for_columns(columns, **options)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--{name} is {text!r}: give a number") from None
