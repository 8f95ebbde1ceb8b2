"""Convert configurations to JSON values and back."""

import contextlib
import enum
import hashlib
import json
import math
import re
import types
from abc import ABCMeta
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from trimask import faults, modules
from trimask.config.annotations import (
    TAG,
    ConfigError,
    annotations_of,
    check_class,
    classes_of,
    describe,
    fail,
    find_class,
    item_types,
    join,
    members_of,
    number_items,
    one_of,
    word_of,
)
from trimask.errors import UserError

T = TypeVar("T")

_ABSENT = "(absent)"
# Limits of fields that determine the sizes of arrays, by the last word of the name: larger arrays could not
# be allocated, and trying would exhaust the machine's memory.
_LARGEST: Mapping[str, int] = types.MappingProxyType(
    {
        **dict.fromkeys(("width", "depth", "heads", "dim", "kernel"), 1 << 17),
        **dict.fromkeys(("batch", "length", "window", "frames", "size", "mels", "hop"), 1 << 20),
        **dict.fromkeys(("codebooks", "workers"), 1 << 10),
    }
)


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a configuration to plain JSON values; `from_dict(type(config), to_dict(config)) == config`.

    An int in a float field becomes a float.

    Raises:
        ConfigError: a value is not of its field's type.
    """
    if not is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"{config!r} is not a configuration: give an instance of a dataclass")
    return cast(dict[str, Any], encode(type(config), config, ""))


def from_dict(cls: type[T], data: Any) -> T:
    """Build `cls` from `data`, the parsed JSON of what `to_dict` made.

    A field may be absent only if it has a default.

    Raises:
        ConfigError: an unknown, missing or mistyped field, an unknown type name, or a value that the class
            rejects.
    """
    try:
        return cast(T, decode(cls, data, ""))
    except RecursionError as error:
        raise ConfigError("the configuration is nested too deep: flatten it") from error


def fingerprint(config: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Return a line for each leaf in which two JSON values differ: "model.depth was 4, is 6"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = before.keys() | now.keys()
        pairs = [(join(path, name), before.get(name, _ABSENT), now.get(name, _ABSENT)) for name in names]
        return [line for name, old, new in pairs for line in differences(old, new, name)]
    return [] if before == now else [f"{path or 'config'} was {before!r}, is {now!r}"]


def encode(annotation: Any, value: Any, path: str) -> Any:
    """Convert a value of an annotated field to JSON values; `path` is for messages."""
    tagged = classes_of(annotation)
    if tagged is not None and (is_dataclass(value) or isinstance(type(value), ABCMeta)):
        check_class(annotation, value, path)
        return {TAG: modules.tag(type(value)), **_encode_fields(value, path)}
    for member in members_of(annotation):
        if is_dataclass(member) and type(value) is member:
            return _encode_fields(value, path)
        origin, arguments = get_origin(member), get_args(member)
        if origin is tuple and isinstance(value, tuple):
            kinds = item_types(arguments, value, path)
            return [encode(kind, item, join(path, i)) for i, kind, item in number_items(kinds, value)]
        if origin is dict and isinstance(value, dict):
            if arguments[0] is not str:
                fail(path, value, "only a dict[str, X] can be stored: use names as keys")
            return {name: encode(arguments[1], item, join(path, name)) for name, item in value.items()}
        if isinstance(member, type) and issubclass(member, enum.Enum) and isinstance(value, member):
            return word_of(value)
        if member is Path and isinstance(value, Path):
            return value.as_posix()
    if isinstance(value, list) and any(get_origin(member) is tuple for member in members_of(annotation)):
        fail(path, value, f"a list could be changed: use a tuple, {tuple(value)}")
    return _leaf(annotation, value, path)


def _encode_fields(value: Any, path: str) -> dict[str, Any]:
    hints = annotations_of(type(value))
    return {name: encode(hint, getattr(value, name), join(path, name)) for name, hint in hints.items()}


def decode(annotation: Any, data: Any, path: str) -> Any:
    """Convert JSON values to a value of an annotated field: the inverse of `encode`."""
    tagged = classes_of(annotation)
    if isinstance(data, Mapping) and tagged is not None:
        cls = find_class(annotation, tagged, data.get(TAG), join(path, TAG))
        return _build(cls, {key: item for key, item in data.items() if key != TAG}, path)
    for member in members_of(annotation):
        origin, arguments = get_origin(member), get_args(member)
        if is_dataclass(member) and isinstance(data, Mapping):
            return _build(cast(type, member), data, path)
        if origin is tuple and isinstance(data, (list, tuple)):
            kinds = item_types(arguments, data, path)
            return tuple(decode(kind, item, join(path, i)) for i, kind, item in number_items(kinds, data))
        if origin is dict and isinstance(data, Mapping):
            return {name: decode(arguments[1], item, join(path, name)) for name, item in data.items()}
        if isinstance(member, type) and issubclass(member, enum.Enum) and isinstance(data, str):
            words = {word_of(option): option for option in member}
            return words[data] if data in words else fail(path, data, f"expected {one_of(words, data)}")
        if member is Path and isinstance(data, str) and data:
            return Path(data)
    return _leaf(annotation, data, path)


def _build(cls: type, data: Mapping[str, Any], path: str) -> Any:
    hints = annotations_of(cls)
    for name in data:
        if name not in hints:
            fail(
                join(path, name),
                data[name],
                f"{cls.__name__} has no such field, only {one_of(hints, name)}",
            )
    for field in fields(cls):
        is_required = field.init and field.default is MISSING and field.default_factory is MISSING
        if is_required and field.name not in data:
            needs = f"{cls.__name__} needs {describe(hints[field.name])} there"
            raise ConfigError(f"{join(path, field.name)} is missing: {needs}")
    arguments = {name: decode(hints[name], item, join(path, name)) for name, item in data.items()}
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except UserError as error:  # from the class's own validation: add the path
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error
    except Exception as error:
        place = faults.find_place(error)
        if place is not None:
            what = faults.explain_failure(error, place)
        elif isinstance(error, ValueError):
            what = str(error)
        else:
            raise
        raise ConfigError(f"{path}: {what}" if path else what) from error


def check_size(value: Any, path: str) -> None:
    """Raise ConfigError if an int is above the limit for fields of this name."""
    most = _LARGEST.get(re.split(r"[._]", path)[-1], math.inf)
    if type(value) is int and value > most:
        fail(path, value, f"expected at most {most:,}: no machine could hold it")


def _leaf(annotation: Any, value: Any, path: str) -> Any:
    check_size(value, path)
    members = members_of(annotation)
    for member in members:
        if get_origin(member) is Literal and any(
            (value, type(value)) == (c, type(c)) for c in get_args(member)
        ):
            return value
        if member in (int, bool, str, types.NoneType) and type(value) is member:
            return value
    if float in members and type(value) in (int, float):
        with contextlib.suppress(OverflowError):  # an int of 400 digits
            if math.isfinite(value):
                return float(value)
        fail(path, value, "expected a finite number")
    return fail(path, value, f"expected {describe(annotation)}")
