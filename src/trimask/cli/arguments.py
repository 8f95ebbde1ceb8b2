"""Parse the command line into a verb's dataclass and overrides of a recipe's fields."""

import contextlib
import dataclasses
import difflib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import tyro

from trimask.cli.failure import UsageError

MOST_MINUTES = 10_000_000  # of training: 19 years
_MOST_PARALLEL = 1_024


class Verb(ABC):
    """A verb: its fields are its arguments, `run` carries it out."""

    takes_overrides: ClassVar[bool] = False
    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Options by field, where the field's name is taken, as `run` is by the method."""
    takes_all_words: ClassVar[bool] = False
    """Whether the words are those of another program: all but a single `--help` become the field `words`."""

    @abstractmethod
    def run(self, overrides: Mapping[str, str]) -> int:
        """Run the verb and return the exit status. `overrides` is empty unless `takes_overrides`."""


VerbT = TypeVar("VerbT", bound=Verb)


def check_words(words: Sequence[str]) -> None:
    """Raise UsageError for a word that is not UTF-8 text or holds a zero byte."""
    for word in words:
        try:
            is_text = "\0" not in word and word.encode() is not None
        except UnicodeEncodeError:  # bytes that are not UTF-8
            is_text = False
        if not is_text:
            raise UsageError(f"{word!r} is not UTF-8 text: rename the file, or give another value")


def _check_filled(own: Sequence[str]) -> None:
    """Raise UsageError for an empty option or argument: an empty path would mean the current folder."""
    for before, word in zip(["", *own], own, strict=False):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            name = option or (before if before.startswith("--") else "an argument")
            raise UsageError(f"{name} is empty: give a value, or leave it out")


def check_parallel(**given: int | None) -> None:
    """Raise UsageError for a number of threads or processes out of range: libraries would abort on it."""
    for name, value in given.items():
        if value is not None and not 1 <= value <= _MOST_PARALLEL:
            raise UsageError(f"--{name} is {value}: give at least 1, at most {_MOST_PARALLEL:,}")


def parse(verb: type[VerbT], name: str, words: Sequence[str]) -> tuple[VerbT, dict[str, str]]:
    """Parse `words` into the arguments of `verb` and overrides by dotted path.

    An override is given as `--model.depth 6` or `--model.depth=6`.

    Raises:
        UsageError: an unknown option, a missing or mistyped argument.
        SystemExit: after printing the help.
    """
    if verb.takes_all_words and list(words) not in (["-h"], ["--help"]):
        _check_filled(words)
        arguments: dict[str, Any] = {"words": tuple(words)}
        return verb(**arguments), {}
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
    """Split `words` into the verb's own words and its unknown options: dotted path -> value."""
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
        # No dotted path, and close to an option of the verb: a typo. The next word may not be its value.
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
    """Raise UsageError for an override that is not below `root`, the only field that `verb` can override."""
    for path in overrides:
        if not path.startswith(f"{root}."):
            raise UsageError(_unknown_option(path, [*_options(verb), f"--{root}.TASK.…"]))


def check_range(option: str, value: float | int | None, least: float | int, most: float | int) -> None:
    """Raise UsageError for a number outside [`least`, `most`], or NaN. None, an option not given, passes."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option} is {value:g}: give a number from {least:,g} to {most:,g}")


def closest(name: str, choices: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Return up to two of `choices` that are similar to `name`, the most similar first."""
    return difflib.get_close_matches(name, list(choices), n=2, cutoff=cutoff)


def choose(what: str, name: str, choices: Iterable[str]) -> str:
    """Return `name` if it is one of `choices`; else raise a UsageError that names the closest."""
    choices = list(choices)
    if name in choices:
        return name
    close = closest(name, choices)
    fix = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(choices)}"
    raise UsageError(f"unknown {what} {name!r}: {fix}")


def _options(verb: type[Verb]) -> list[str]:
    assert dataclasses.is_dataclass(verb)
    names = [verb.renamed.get(field.name, field.name) for field in dataclasses.fields(verb)]
    return ["--help", *(f"--{name.replace('_', '-')}" for name in names)]


def _unknown_option(option: str, options: Iterable[str]) -> str:
    option = option if option.startswith("--") else f"--{option.replace('_', '-')}"
    options = list(options)
    close = closest(option.replace("_", "-"), options, cutoff=0.7)
    fix = f"did you mean {' or '.join(close)}?" if close else f"the options are {', '.join(options)}"
    return f"unknown option {option}: {fix}"


def _one_line(box: str) -> str:
    """Return the parser's message as one line, without its frame, list of causes and hints."""
    kept: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        is_rule = not text.strip("─-╰╯")
        if (is_rule and kept) or text.startswith("Got errors"):
            break
        if not is_rule:
            kept.append(text)
    return " ".join(kept).rstrip(".") or "the arguments cannot be parsed"
