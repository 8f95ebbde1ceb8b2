"""What an annotation allows, and how messages name it."""

import difflib
import enum
import functools
import types
from abc import ABCMeta
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints

from trimask import modules
from trimask.errors import UserError

TAG = "type"
"""The field of a stored object that names its class."""

_NOUNS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a path",
    types.NoneType: "null",
}


class ConfigError(UserError):
    """A configuration does not fit its classes: where (the dotted path), and what would be right."""


@functools.cache
def annotations_of(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def is_interface(annotation: Any) -> bool:
    return isinstance(annotation, ABCMeta) and "__final__" not in annotation.__dict__


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; a type that is no union is its own only alternative."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def classes_of(annotation: Any) -> dict[str, type] | None:
    """Tag -> class where the annotation leaves the class open, else None: ours, and those of the user's that
    are imported.
    """
    groups = [member for member in members_of(annotation) if is_interface(member) or is_dataclass(member)]
    if not any(is_interface(member) for member in groups) and len(groups) < 2:
        return None
    found: list[type] = []
    for group in groups:
        cls = cast(type, group)
        found += _final_subclasses(cls) if is_interface(cls) else [cls]
    tagged = [(tag, cls) for cls in found if (tag := modules.tag(cls)) is not None]
    return dict(sorted(tagged, key=lambda each: each[0]))  # of two with one tag the newer


def _final_subclasses(cls: type) -> Iterator[type]:
    # `@dataclass(slots=True)` makes a second class, and the first stays among the subclasses until it is
    # collected: only the second gets `@final`, which stands above it.
    for subclass in cls.__subclasses__():
        if "__final__" in subclass.__dict__ and is_dataclass(subclass):
            yield subclass
        yield from _final_subclasses(subclass)


def find_class(annotation: Any, classes: Mapping[str, type], name: Any, path: str, more: str = "") -> type:
    """The class that `name` names at `path`, of those that the annotation allows (`classes`, by their tags).
    A class of the user's is imported by its tag, and its name alone is enough once it is imported.
    """
    if name in classes:
        return classes[name]
    if isinstance(name, str) and ":" in name:
        try:
            cls = modules.load_tagged(name)
        except UserError as error:
            raise ConfigError(f"{path}: {error}") from error
        return require_class(annotation, cls, name, path)
    namesakes = [tag for tag in classes if tag.rpartition(":")[2] == name]
    if len(namesakes) > 1:
        fail(path, name, f"say which is meant, {' or '.join(namesakes)}")
    if not namesakes:
        fail(path, name, f"expected {one_of(plain_names(classes), name)}{more}")
    return classes[namesakes[0]]


def check_class(annotation: Any, value: Any, path: str) -> None:
    """ConfigError if the class of `value` may not be configured where the annotation leaves it open."""
    require_class(annotation, type(value), value, path)
    if modules.tag(type(value)) is None:
        name = type(value).__qualname__
        fail(path, value, f"{name} could not be imported again: put it at the top of a .py file")


def require_class(annotation: Any, cls: Any, shown: Any, path: str) -> type:
    """`cls` if it may be configured where the annotation leaves the class open; else ConfigError, about
    `shown`.
    """
    members = members_of(annotation)
    if isinstance(cls, type) and cls in members and not is_interface(cls):
        return cls
    interfaces = [member for member in members if is_interface(member)]
    if not isinstance(cls, type) or not issubclass(cls, tuple(interfaces)):
        bases = " or ".join(f"{each.__module__}.{each.__qualname__}" for each in interfaces)
        known = one_of(plain_names(classes_of(annotation) or {}))
        fail(path, shown, f"expected a subclass of {bases}" if bases else f"expected {known}")
    if "__final__" not in cls.__dict__ or not is_dataclass(cls):
        mend = "put `@final` and `@dataclass(frozen=True, kw_only=True, slots=True)` above it"
        fail(path, shown, f"only final dataclasses can be stored: {mend}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        fail(path, shown, f"it lacks what {cls.__mro__[1].__name__} asks for: {', '.join(missing)}")
    return cls


def plain_names(tags: Iterable[str]) -> list[str]:
    """The names of classes without their modules."""
    return sorted({tag.rpartition(":")[2] for tag in tags})


def word_of(member: enum.Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name


def describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(repr(word_of(member)) for member in annotation)
    if len(members_of(annotation)) > 1:
        return " or ".join(describe(member) for member in members_of(annotation))
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        several = len(items) == 2 and items[1] is Ellipsis
        return (
            "a list, each " + describe(items[0]) if several else "a list: " + ", ".join(map(describe, items))
        )
    if get_origin(annotation) is dict:
        return f"an object by name, each {describe(get_args(annotation)[1])}"
    return _NOUNS.get(annotation, f"an object ({getattr(annotation, '__name__', annotation)})")


def choices_of(members: tuple[Any, ...]) -> list[str]:
    enums = [m for m in members if isinstance(m, type) and issubclass(m, enum.Enum)]
    literals = [str(c) for m in members if get_origin(m) is Literal for c in get_args(m)]
    return literals + [word_of(option) for e in enums for option in e]


def item_types(arguments: tuple[Any, ...], items: Any, path: str) -> list[Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [arguments[0]] * len(items)
    if len(items) != len(arguments):
        fail(path, items, f"expected {len(arguments)} items, not {len(items)}")
    return list(arguments)


def number_items(kinds: Iterable[Any], items: Iterable[Any]) -> Iterator[tuple[int, Any, Any]]:
    return ((i, kind, item) for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def join(path: str, name: str | int) -> str:
    return f"{path}.{name}" if path else str(name)


def one_of(options: Iterable[str], name: Any = None) -> str:
    names = list(options)
    if len(names) == 1:
        return names[0]
    close = difflib.get_close_matches(str(name), names, n=2, cutoff=0.6) if name is not None else []
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"one of {', '.join(names) if names else 'nothing'}{meant}"


def fail(path: str, value: Any, right: str) -> NoReturn:
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "…"
    raise ConfigError(f"{path or 'the configuration'} = {shown} ({type(value).__name__}): {right}")
