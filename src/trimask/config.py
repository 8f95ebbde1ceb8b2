"""Configurations: frozen dataclasses <-> JSON, overrides by dotted path, fingerprints.

A configuration is a tree of dataclasses. Leaves are `int`, `float`, `bool`, `str`, `None`, `Path`, enums and
literals; branches are dataclasses, tuples, `dict[str, X]` and unions. Where the annotation does not say which
class a value has (an abstract base class, or a union of dataclasses), the stored object carries a `"type"`
field with the class's name. The name is looked up among the final subclasses that exist, so there is no
registry to keep: a class can be configured as soon as it is defined.
"""

import contextlib
import difflib
import enum
import functools
import hashlib
import json
import math
import re
import types
from abc import ABCMeta
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from trimask.errors import UserError

T = TypeVar("T")

_TAG = "type"
_ABSENT = "(absent)"
# What makes arrays: above these nothing could be built, and trying would take the machine down.
_LARGEST: Mapping[str, int] = types.MappingProxyType(
    {
        **dict.fromkeys(("width", "depth", "heads", "dim", "kernel"), 1 << 17),
        **dict.fromkeys(("batch", "length", "window", "frames", "size", "mels", "hop"), 1 << 20),
        **dict.fromkeys(("codebooks", "workers"), 1 << 10),
    }
)
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


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values; `from_dict(type(config), to_dict(config)) == config`.

    Raises `ConfigError` where a value is not of its field's type (a whole number in a float field becomes a
    float).
    """
    if not is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"{config!r} is not a configuration: give an instance of a dataclass")
    return cast(dict[str, Any], _encode(type(config), config, ""))


def from_dict(cls: type[T], data: Any) -> T:
    """Build `cls` from what `to_dict` made (`data`: whatever stood in a JSON file).

    A field may be left out only if it has a default.

    Raises `ConfigError` for an unknown, missing or mistyped field, an unknown type name, or a value its class
    refuses.
    """
    try:
        return cast(T, _decode(cls, data, ""))
    except RecursionError as error:
        raise ConfigError("the configuration is nested too deep") from error


def override(config: T, values: Mapping[str, str]) -> T:
    """A copy of `config` with the leaves at dotted paths replaced: `override(run, {"model.depth": "6",
    "betas": "0.9,0.99"})`.

    Strings are parsed by the field's type: tuples as comma lists, `none` where the field may be None, tuple
    items by index (`phases.0.num_steps`). Values change, types never: a group as a whole cannot be replaced.
    All values are set before the classes check themselves, so two fields that depend on each other can be
    changed together.
    """
    data = to_dict(config)
    for path, text in values.items():
        _set(config, type(config), data, path, text)
    return from_dict(cast(type[T], type(config)), data)


def fingerprint(config: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces): equal
    configurations, equal fingerprints.
    """
    canonical = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """One line for each leaf in which two JSON values differ: "model.depth was 4, is 6"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = before.keys() | now.keys()
        pairs = [(_join(path, name), before.get(name, _ABSENT), now.get(name, _ABSENT)) for name in names]
        return [line for name, old, new in pairs for line in differences(old, new, name)]
    return [] if before == now else [f"{path or 'config'} was {before!r}, is {now!r}"]


# Types: what an annotation allows.


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def _is_interface(annotation: Any) -> bool:
    return isinstance(annotation, ABCMeta) and "__final__" not in annotation.__dict__


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; a type that is no union is its own only alternative."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _tagged(annotation: Any) -> dict[str, type] | None:
    """Class name -> class where the annotation leaves the class open, else None."""
    groups = [member for member in _members(annotation) if _is_interface(member) or is_dataclass(member)]
    if not any(_is_interface(member) for member in groups) and len(groups) < 2:
        return None
    classes: set[type] = set()
    for group in groups:
        cls = cast(type, group)
        classes.update(_final_subclasses(cls) if _is_interface(cls) else [cls])
    names = sorted(cls.__name__ for cls in classes)
    assert len(set(names)) == len(names), f"two classes of one name cannot be told apart in JSON: {names}"
    return {cls.__name__: cls for cls in sorted(classes, key=lambda cls: cls.__name__)}


def _final_subclasses(cls: type) -> Iterator[type]:
    # `@dataclass(slots=True)` makes a second class, and the first stays among the subclasses until it is
    # collected: only the second gets `@final`, which stands above it.
    for subclass in cls.__subclasses__():
        if "__final__" in subclass.__dict__ and is_dataclass(subclass):
            yield subclass
        yield from _final_subclasses(subclass)


def _word(member: enum.Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(repr(_word(member)) for member in annotation)
    if len(_members(annotation)) > 1:
        return " or ".join(_describe(member) for member in _members(annotation))
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        several = len(items) == 2 and items[1] is Ellipsis
        return (
            "a list, each " + _describe(items[0])
            if several
            else "a list: " + ", ".join(map(_describe, items))
        )
    if get_origin(annotation) is dict:
        return f"an object by name, each {_describe(get_args(annotation)[1])}"
    return _NOUNS.get(annotation, f"an object ({getattr(annotation, '__name__', annotation)})")


# Values.


def _encode(annotation: Any, value: Any, path: str) -> Any:
    tagged = _tagged(annotation)
    if tagged is not None and is_dataclass(value):
        if tagged.get(type(value).__name__) is not type(value):
            _fail(path, value, f"expected an instance of {_one_of(tagged)}")
        return {_TAG: type(value).__name__, **_encode_fields(value, path)}
    for member in _members(annotation):
        if is_dataclass(member) and type(value) is member:
            return _encode_fields(value, path)
        origin, arguments = get_origin(member), get_args(member)
        if origin is tuple and isinstance(value, tuple):
            kinds = _item_types(arguments, value, path)
            return [_encode(kind, item, _join(path, i)) for i, kind, item in _zip(kinds, value)]
        if origin is dict and isinstance(value, dict):
            assert arguments[0] is str, f"{path}: only dict[str, X] can be stored"
            return {name: _encode(arguments[1], item, _join(path, name)) for name, item in value.items()}
        if isinstance(member, type) and issubclass(member, enum.Enum) and isinstance(value, member):
            return _word(value)
        if member is Path and isinstance(value, Path):
            return value.as_posix()
    return _leaf(annotation, value, path)


def _encode_fields(value: Any, path: str) -> dict[str, Any]:
    hints = _annotations(type(value))
    return {name: _encode(hint, getattr(value, name), _join(path, name)) for name, hint in hints.items()}


def _decode(annotation: Any, data: Any, path: str) -> Any:
    tagged = _tagged(annotation)
    if isinstance(data, Mapping) and tagged is not None:
        name = data.get(_TAG)
        if not isinstance(name, str) or name not in tagged:
            _fail(_join(path, _TAG), name, f"expected {_one_of(tagged, name)}")
        return _build(tagged[name], {key: item for key, item in data.items() if key != _TAG}, path)
    for member in _members(annotation):
        origin, arguments = get_origin(member), get_args(member)
        if is_dataclass(member) and isinstance(data, Mapping):
            return _build(cast(type, member), data, path)
        if origin is tuple and isinstance(data, (list, tuple)):
            kinds = _item_types(arguments, data, path)
            return tuple(_decode(kind, item, _join(path, i)) for i, kind, item in _zip(kinds, data))
        if origin is dict and isinstance(data, Mapping):
            return {name: _decode(arguments[1], item, _join(path, name)) for name, item in data.items()}
        if isinstance(member, type) and issubclass(member, enum.Enum) and isinstance(data, str):
            words = {_word(option): option for option in member}
            return words[data] if data in words else _fail(path, data, f"expected {_one_of(words, data)}")
        if member is Path and isinstance(data, str) and data:
            return Path(data)
    return _leaf(annotation, data, path)


def _build(cls: type, data: Mapping[str, Any], path: str) -> Any:
    hints = _annotations(cls)
    for name in data:
        if name not in hints:
            _fail(
                _join(path, name),
                data[name],
                f"{cls.__name__} has no such field, only {_one_of(hints, name)}",
            )
    for field in fields(cls):
        is_required = field.init and field.default is MISSING and field.default_factory is MISSING
        if is_required and field.name not in data:
            needs = f"{cls.__name__} needs {_describe(hints[field.name])} there"
            raise ConfigError(f"{_join(path, field.name)} is missing: {needs}")
    arguments = {name: _decode(hints[name], item, _join(path, name)) for name, item in data.items()}
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:  # the class's own check: all it lacks is where it stands
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error


def _check_size(value: Any, path: str) -> None:
    most = _LARGEST.get(re.split(r"[._]", path)[-1], math.inf)
    if type(value) is int and value > most:
        _fail(path, value, f"expected at most {most:,}: no machine could hold it")


def _leaf(annotation: Any, value: Any, path: str) -> Any:
    _check_size(value, path)
    members = _members(annotation)
    for member in members:
        if get_origin(member) is Literal and any(
            (value, type(value)) == (c, type(c)) for c in get_args(member)
        ):
            return value
        if member in (int, bool, str, types.NoneType) and type(value) is member:
            return value
    if float in members and type(value) in (int, float):
        with contextlib.suppress(OverflowError):  # a whole number of 400 digits
            if math.isfinite(value):
                return float(value)
        _fail(path, value, "expected a finite number")
    return _fail(path, value, f"expected {_describe(annotation)}")


def _item_types(arguments: tuple[Any, ...], items: Any, path: str) -> list[Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [arguments[0]] * len(items)
    if len(items) != len(arguments):
        _fail(path, items, f"expected {len(arguments)} items, not {len(items)}")
    return list(arguments)


def _zip(kinds: Iterable[Any], items: Iterable[Any]) -> Iterator[tuple[int, Any, Any]]:
    return ((i, kind, item) for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


# Overrides.


def _set(config: Any, annotation: Any, data: Any, path: str, text: str) -> None:
    """Write `text`, parsed, into `data` at `path`; `config` is walked beside it since it knows the concrete
    classes.
    """
    names = path.split(".")
    holder, slot = data, cast(Any, "")
    for depth, name in enumerate(names):
        here = ".".join(names[: depth + 1])
        if depth:
            holder = holder[slot]
        options = _children(config, annotation)
        if name not in options:
            parent = ".".join(names[:depth]) or "the configuration"
            below = [path for path in _paths(config, annotation) if f".{path}".endswith(f".{name}")]
            right = f"{parent} has only {_one_of(options, name)}" if options else f"{parent} has no parts"
            if below and not depth:
                right = f"there is no field of this name: set {_one_of(below)}"
            _fail(here, text, right)
        config, annotation = options[name]
        slot = cast(Any, int(name) if isinstance(holder, list) else name)
    holder[slot] = _parse(annotation, text, path, config)


def _children(config: Any, annotation: Any) -> dict[str, tuple[Any, Any]]:
    """Name -> (value, annotation) of what stands directly below."""
    if is_dataclass(config):
        return {name: (getattr(config, name), hint) for name, hint in _annotations(type(config)).items()}
    for member in _members(annotation):
        arguments = get_args(member)
        if get_origin(member) is tuple and isinstance(config, tuple):
            kinds = _item_types(arguments, config, "")
            return {str(i): (item, kind) for i, kind, item in _zip(kinds, config)}
        if get_origin(member) is dict and isinstance(config, dict):
            return {name: (item, arguments[1]) for name, item in config.items()}
    return {}


def _paths(config: Any, annotation: Any) -> Iterator[str]:
    """The dotted paths of all that stands below."""
    for name, child in _children(config, annotation).items():
        yield name
        yield from (f"{name}.{path}" for path in _paths(*child))


def _parse(annotation: Any, text: str, path: str, current: Any) -> Any:
    """`text` as the JSON value of a leaf (or a list of leaves)."""
    members = _members(annotation)
    if types.NoneType in members and text.lower() in ("none", "null"):
        return None
    for member in members:
        if get_origin(member) is tuple:
            items = [item.strip() for item in text.strip("()[] ").split(",") if item.strip()]
            kinds = _item_types(get_args(member), items, path)
            return [_parse(kind, item, _join(path, i), None) for i, kind, item in _zip(kinds, items)]
        if is_dataclass(member) or _is_interface(member) or get_origin(member) is dict:
            below = [_join(path, name) for name in _children(current, annotation)]
            _fail(
                path,
                text,
                f"it is a group, set {_one_of(below)}" if below else "its type cannot be overridden",
            )
    for candidate in _readings(members, text):
        _check_size(candidate, path)
        try:
            _decode(annotation, candidate, path)
            return candidate
        except ConfigError:
            continue
    choices = _choices(members)
    return _fail(path, text, f"expected {_one_of(choices, text) if choices else _describe(annotation)}")


def _readings(members: tuple[Any, ...], text: str) -> Iterator[Any]:
    """What `text` may stand for, strictest first: "6" in an `int | str` field is a number."""
    if text.lower() in ("true", "false"):
        yield text.lower() == "true"
    for kind in (int, float):
        try:
            yield kind(text)
        except ValueError:
            pass
    yield text


def _choices(members: tuple[Any, ...]) -> list[str]:
    enums = [m for m in members if isinstance(m, type) and issubclass(m, enum.Enum)]
    literals = [str(c) for m in members if get_origin(m) is Literal for c in get_args(m)]
    return literals + [_word(option) for e in enums for option in e]


# Messages.


def _join(path: str, name: str | int) -> str:
    return f"{path}.{name}" if path else str(name)


def _one_of(options: Iterable[str], name: Any = None) -> str:
    names = list(options)
    if len(names) == 1:
        return names[0]
    close = difflib.get_close_matches(str(name), names, n=2, cutoff=0.6) if name is not None else []
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"one of {', '.join(names) if names else 'nothing'}{meant}"


def _fail(path: str, value: Any, right: str) -> NoReturn:
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "…"
    raise ConfigError(f"{path or 'the configuration'} = {shown} ({type(value).__name__}): {right}")
