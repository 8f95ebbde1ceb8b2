"""From words to a verb's dataclass, and to overrides of a recipe's fields."""

import contextlib
import dataclasses
import difflib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar

import tyro

from trimask.cli.failure import UsageError

MOST_MINUTES = 10_000_000  # of a training: 19 years
_MOST_PARALLEL = 1_024


class Verb(ABC):
    """What a verb's arguments are, and what it does with them."""

    takes_overrides: ClassVar[bool] = False

    @abstractmethod
    def run(self, overrides: Mapping[str, str]) -> int:
        """Do it; returns the exit status. `overrides` is empty unless `takes_overrides`."""


VerbT = TypeVar("VerbT", bound=Verb)


def check_words(words: Sequence[str]) -> None:
    """UsageError for a word that is not text."""
    for word in words:
        try:
            is_text = "\0" not in word and word.encode() is not None
        except UnicodeEncodeError:  # bytes that are not UTF-8
            is_text = False
        if not is_text:
            raise UsageError(f"{word!r} is not UTF-8 text: rename the file, or give another value")


def _check_filled(own: Sequence[str]) -> None:
    """UsageError for an option or argument of the verb that is empty: a path would be this folder."""
    for before, word in zip(["", *own], own, strict=False):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            name = option or (before if before.startswith("--") else "an argument")
            raise UsageError(f"{name} is empty: give a value, or leave it out")


def check_parallel(**given: int | None) -> None:
    """UsageError for a number of threads or of processes that no machine takes: libraries abort on it."""
    for name, value in given.items():
        if value is not None and not 1 <= value <= _MOST_PARALLEL:
            raise UsageError(f"--{name} is {value}: give at least 1, at most {_MOST_PARALLEL:,}")


def parse(verb: type[VerbT], name: str, words: Sequence[str]) -> tuple[VerbT, dict[str, str]]:
    """The arguments of `verb`, and overrides by dotted path: `--model.depth 6` or `--model.depth=6`.

    Raises:
        UsageError: an unknown option, a missing or mistyped argument.
        SystemExit: after printing the help.
    """
    own, overrides = split_overrides(verb, words)
    if overrides and not verb.takes_overrides and not {"-h", "--help"} & set(own):
        raise UsageError(_unknown_option(next(iter(overrides)), _options(verb)))
    _check_filled(own)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            parsed = tyro.cli(verb, args=own, prog=f"trimask {name}", config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_one_line(captured.getvalue())} (trimask {name} --help)") from None
    return parsed, overrides


def split_overrides(verb: type[Verb], words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are the verb's own, and the options that it doesn't have, with their values."""
    options = _options(verb)
    own: list[str] = []
    overrides: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return own + rest, overrides
        option, equals, value = word.partition("=")
        spelled = option.replace("_", "-")
        if not option.startswith("--") or spelled in options:
            own.append(word)
            continue
        # Close to one of ours, and no path: mistyped, and what follows may not be its value.
        if "." not in option and closest(spelled, options, cutoff=0.85):
            raise UsageError(_unknown_option(option, options))
        if not equals:
            if not rest or rest[0].startswith("--"):
                hint = f"give one: {option} VALUE" if verb.takes_overrides else ""
                raise UsageError(
                    f"{option} has no value: {hint}" if hint else _unknown_option(option, options)
                )
            value = rest.pop(0)
        path = option.removeprefix("--").replace("-", "_")
        if path in overrides:
            raise UsageError(f"{option} is given twice: {overrides[path]!r} and {value!r}: give it once")
        overrides[path] = value
    return own, overrides


def check_paths(overrides: Mapping[str, str], root: str, *, verb: type[Verb]) -> None:
    """UsageError for an option of `verb` that is none of its own, and no path below `root`."""
    for path in overrides:
        if not path.startswith(f"{root}."):
            raise UsageError(_unknown_option(path, [*_options(verb), f"--{root}.TASK.…"]))


def check_range(option: str, value: float | int | None, least: float | int, most: float | int) -> None:
    """UsageError for a number outside `least` … `most`, or none; None is an option that was not given."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option} is {value:g}: give a number from {least:,g} to {most:,g}")


def closest(name: str, choices: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Up to two of `choices` that look like `name`."""
    return difflib.get_close_matches(name, list(choices), n=2, cutoff=cutoff)


def choose(what: str, name: str, choices: Iterable[str]) -> str:
    """`name` if it is one of `choices`; else a UsageError that names the closest."""
    choices = list(choices)
    if name in choices:
        return name
    close = closest(name, choices)
    mend = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(choices)}"
    raise UsageError(f"unknown {what} {name!r}: {mend}")


def _options(verb: type[Verb]) -> list[str]:
    assert dataclasses.is_dataclass(verb)
    return ["--help", *(f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(verb))]


def _unknown_option(option: str, options: Iterable[str]) -> str:
    option = option if option.startswith("--") else f"--{option.replace('_', '-')}"
    options = list(options)
    close = closest(option.replace("_", "-"), options, cutoff=0.7)
    mend = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(options)}"
    return f"unknown option {option}: {mend}"


def _one_line(box: str) -> str:
    """What the parser has to say, without its frame, its list of causes and its hints."""
    kept: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        is_rule = not text.strip("─-╰╯")
        if (is_rule and kept) or text.startswith("Got errors"):
            break
        if not is_rule:
            kept.append(text)
    return " ".join(kept).rstrip(".") or "the arguments cannot be read"
