"""Inspect annotations: which values they allow, and how error messages describe them."""

import difflib
import enum
import functools
import inspect
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


_SUPPORTED = (
    "int, float, bool, str, None, Path, enums, Literal, dataclasses, abstract classes with dataclasses below "
    "them, tuple[X, ...], dict[str, X], and unions of these"
)


class ConfigError(UserError):
    """A configuration does not fit its classes; the message has the dotted path and what is allowed there."""


@functools.cache
def annotations_of(cls: type) -> dict[str, Any]:
    """Return the annotation of each field that the constructor of a dataclass takes.

    Raises:
        ConfigError: an annotation cannot be resolved, or has values that cannot be stored.
    """
    try:
        hints = get_type_hints(cls)
    except Exception as error:  # an annotation may be any expression
        raise ConfigError(_explain_unresolved(cls, error)) from error
    found = {field.name: hints[field.name] for field in fields(cls) if field.init}
    for name, annotation in found.items():
        if not _is_supported(annotation):
            text = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
            text = str(annotation) if text is None or get_origin(annotation) else text
            raise ConfigError(
                f"{cls.__qualname__}.{name} has the type {text}, which a configuration cannot store: use "
                f"{_SUPPORTED}"
            )
    return found


def _explain_unresolved(cls: type, error: Exception) -> str:
    """Say which annotation of `cls` raised `error`: resolve them again, one by one."""
    for base in cls.__mro__:
        for name, annotation in inspect.get_annotations(base).items():
            alone = type(name, (), {"__annotations__": {name: annotation}, "__module__": base.__module__})
            try:
                get_type_hints(alone, localns=dict(vars(base)))
            except Exception as cause:  # this one: it may be any expression
                return (
                    f"{base.__qualname__}.{name} has the type {annotation!r}, which cannot be resolved "
                    f"({modules.describe_error(cause)}): define or import it at the top level of "
                    f"{modules.spell_module(base.__module__)}"
                )
    return (
        f"the types of the fields of {cls.__qualname__} cannot be resolved: {modules.describe_error(error)}"
    )


def _is_supported(annotation: Any) -> bool:
    """Whether a configuration can store values of an annotation: of a union, those of one alternative."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(map(_is_supported, arguments))
    if origin is tuple:
        return all(_is_supported(each) for each in arguments if each is not Ellipsis)
    if origin is dict:
        return arguments[0] is str and _is_supported(arguments[1])
    is_enum = isinstance(annotation, type) and issubclass(annotation, enum.Enum)
    return (
        annotation in _NOUNS
        or origin is Literal
        or is_enum
        or is_interface(annotation)
        or is_dataclass(annotation)
    )


def is_interface(annotation: Any) -> bool:
    """Whether an annotation is an abstract base class, which leaves the class of a value open."""
    return isinstance(annotation, ABCMeta) and "__final__" not in annotation.__dict__


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union; any other type is its only alternative."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def classes_of(annotation: Any) -> dict[str, type] | None:
    """Return tag -> class of all imported classes that fit, if the annotation leaves the class open.

    None if the annotation determines the class.
    """
    groups = [member for member in members_of(annotation) if is_interface(member) or is_dataclass(member)]
    if not any(is_interface(member) for member in groups) and len(groups) < 2:
        return None
    found: list[type] = []
    for group in groups:
        cls = cast(type, group)
        found += _final_subclasses(cls) if is_interface(cls) else [cls]
    tagged = [(tag, cls) for cls in found if (tag := modules.tag(cls)) is not None]
    return dict(sorted(tagged, key=lambda each: each[0]))  # of two classes with one tag, the newer one


def _final_subclasses(cls: type) -> Iterator[type]:
    # `@dataclass(slots=True)` creates a second class, and the first stays among the subclasses until it is
    # garbage-collected. Only the second is marked by `@final`, which is applied last.
    for subclass in cls.__subclasses__():
        if "__final__" in subclass.__dict__ and is_dataclass(subclass):
            yield subclass
        yield from _final_subclasses(subclass)


def find_class(annotation: Any, classes: Mapping[str, type], name: Any, path: str, more: str = "") -> type:
    """Find the class that `name` refers to at `path`.

    A user's class is imported by its tag (`module:Class`); once it is imported, its name is sufficient.

    Args:
        classes: classes that the annotation allows, by tag.
        more: text to append to the message about an unknown name.

    Raises:
        ConfigError: there is no such class, or several, or it does not fit.
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
        names = sorted(map(modules.spell, namesakes))
        fail(path, name, f"the name is ambiguous: give {' or '.join(names)}")
    if not namesakes:
        fail(path, name, f"expected {one_of(plain_names(classes), name)}{more}")
    return classes[namesakes[0]]


def check_class(annotation: Any, value: Any, path: str) -> None:
    """Raise ConfigError if `value` is not of a class that the annotation allows and that can be stored."""
    require_class(annotation, type(value), value, path)


def require_class(annotation: Any, cls: Any, value: Any, path: str) -> type:
    """Return `cls` if the annotation allows it and it can be stored; else raise ConfigError about `value`."""
    if not isinstance(cls, type) or cls not in members_of(annotation) or is_interface(cls):
        _check_subclass(annotation, cls, value, path)
    if modules.tag(cls) is None:
        name = cls.__qualname__
        fail(path, value, f"{name} could not be imported again: define it at the top level of a .py file")
    return cls


def _check_subclass(annotation: Any, cls: Any, value: Any, path: str) -> None:
    interfaces = [member for member in members_of(annotation) if is_interface(member)]
    if not isinstance(cls, type) or not issubclass(cls, tuple(interfaces)):
        bases = " or ".join(f"{each.__module__}.{each.__qualname__}" for each in interfaces)
        known = one_of(plain_names(classes_of(annotation) or {}))
        fail(path, value, f"expected a subclass of {bases}" if bases else f"expected {known}")
    if "__final__" not in cls.__dict__ or not is_dataclass(cls):
        fix = "put `@final` and `@dataclass(frozen=True, kw_only=True, slots=True)` above it"
        fail(path, value, f"only final dataclasses can be stored: {fix}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        fail(path, value, f"it does not implement {', '.join(missing)} of {cls.__mro__[1].__name__}")


def plain_names(tags: Iterable[str]) -> list[str]:
    """Return the names of classes without their modules, sorted and without duplicates."""
    return sorted({tag.rpartition(":")[2] for tag in tags})


def word_of(member: enum.Enum) -> str:
    """Return the string that stores an enum member: its value if that is a string, else its name."""
    return member.value if isinstance(member.value, str) else member.name


def describe(annotation: Any) -> str:
    """Describe in words the values that an annotation allows."""
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
    """Return the strings that the literals and enums among the alternatives of a union allow."""
    enums = [m for m in members if isinstance(m, type) and issubclass(m, enum.Enum)]
    literals = [str(c) for m in members if get_origin(m) is Literal for c in get_args(m)]
    return literals + [word_of(option) for e in enums for option in e]


def item_types(arguments: tuple[Any, ...], items: Any, path: str) -> list[Any]:
    """Return the annotation of each of `items`, from the arguments of a tuple's annotation.

    Raises:
        ConfigError: another number of items than the annotation has.
    """
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [arguments[0]] * len(items)
    if len(items) != len(arguments):
        fail(path, items, f"expected {len(arguments)} items, not {len(items)}")
    return list(arguments)


def number_items(kinds: Iterable[Any], items: Iterable[Any]) -> Iterator[tuple[int, Any, Any]]:
    """Yield (index, annotation, item) of each item."""
    return ((i, kind, item) for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def join(path: str, name: str | int) -> str:
    """Append a name or index to a dotted path."""
    return f"{path}.{name}" if path else str(name)


def one_of(options: Iterable[str], name: Any = None) -> str:
    """Format "one of a, b, c" for a message, with the options closest to `name`, if any."""
    names = list(options)
    if len(names) == 1:
        return names[0]
    close = difflib.get_close_matches(str(name), names, n=2, cutoff=0.6) if name is not None else []
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"one of {', '.join(names) if names else 'nothing'}{meant}"


def fail(path: str, value: Any, expected: str) -> NoReturn:
    """Raise ConfigError about `value` at `path`; `expected` says what is allowed there."""
    text = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "…"
    raise ConfigError(f"{path or 'the configuration'} = {text} ({type(value).__name__}): {expected}")
