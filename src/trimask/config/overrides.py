"""Override fields of a configuration by dotted path, with values given as strings."""

import contextlib
import copy
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin

from trimask import modules
from trimask.config.annotations import (
    TAG,
    ConfigError,
    annotations_of,
    choices_of,
    classes_of,
    describe,
    fail,
    find_class,
    item_types,
    join,
    members_of,
    number_items,
    one_of,
    plain_names,
    require_class,
)
from trimask.config.values import check_size, decode, encode, from_dict, to_dict
from trimask.errors import UserError

T = TypeVar("T")


def override(config: T, values: Mapping[str, str]) -> T:
    """Return a copy of `config` with the fields at dotted paths replaced.

    Example: `override(run, {"model.depth": "6", "betas": "0.9,0.99", "lr_schedule": "WarmupStableDecay",
    "lr_schedule.decay_fraction": "0.1"})`.

    Strings are parsed by the field's type: tuples as comma-separated lists, `none` as None if the field
    allows it. Items of a tuple are addressed by index (`phases.0.num_steps`), or by their field `name`
    (`tasks.joint.spans`). A field that allows several classes is set to one by its name; the fields of that
    class have their defaults, or the values of longer paths. Setting a field of a group that is None creates
    the group. Settings within settings of the same class, by name, gain a new name: as a copy of those
    around, with their other changes (`sampler.joint.targets.image.num_steps`). All values are set before the
    classes validate themselves, so that fields which depend on each other can be changed together.

    Raises:
        ConfigError: no such path (the message has the closest ones), or a value that does not fit.
    """
    data: Any = to_dict(config)
    # A class before its fields; what is copied before the copy.
    for path in sorted(values, key=lambda path: (_adds_item(type(config), data, path), path.count("."))):
        _set(type(config), data, path, values[path])
    return from_dict(cast(type[T], type(config)), data)


def _set(annotation: Any, data: Any, path: str, text: str) -> None:
    """Write `text`, parsed, into `data` at `path`."""
    root, names = (annotation, data), path.split(".")
    holder, slot = data, cast(Any, "")
    around, class_around = cast(Any, None), cast(Any, None)
    for depth, name in enumerate(names):
        if depth:
            if holder[slot] is None:
                holder[slot] = _make_group(annotation, ".".join(names[:depth]))
            around, holder = holder, holder[slot]
        if _is_within(annotation, class_around) and name not in holder:
            _add_copy(holder, name, around, slot)
        options = _children(annotation, holder)
        if name not in options:
            parent = ".".join(names[:depth]) or "the configuration"
            below = [each for each in _paths(*root) if f".{each}".endswith(f".{name}")]
            expected = f"{parent} has only {one_of(options, name)}" if options else f"{parent} has no fields"
            if isinstance(holder, list):
                expected += f"; to change their number, set the whole list: {parent} A,B"
            if below and not depth:
                expected = f"there is no field of this name: set {one_of(below)}"
            fail(".".join(names[: depth + 1]), text, expected)
        class_around, annotation = annotation, options[name]
        slot = cast(Any, _places(holder)[name] if isinstance(holder, list) else name)
        if isinstance(holder, dict):
            holder.setdefault(slot, None)  # a field without default, of a class chosen just now
    holder[slot] = _parse(annotation, text, path, holder[slot])


def _is_within(annotation: Any, class_around: Any) -> bool:
    """Whether a field of `class_around` holds, by name, settings of this same class."""
    dicts = [get_args(member)[1] for member in members_of(annotation) if get_origin(member) is dict]
    return class_around is not None and dicts == [class_around]


def _add_copy(items: Any, name: str, around: Any, field: str) -> None:
    """Add a copy of the settings `around` to `items`, their field `field`, which is empty in the copy."""
    items[name] = {**copy.deepcopy(around), field: {}}


def _adds_item(annotation: Any, data: Any, path: str) -> bool:
    """Whether setting `path` adds settings within settings of the same class."""
    class_around = None
    for name in path.split("."):
        options = _children(annotation, data)
        if name not in options:
            return _is_within(annotation, class_around)
        data = data[_places(data)[name]] if isinstance(data, list) else data.get(name)
        class_around, annotation = annotation, options[name]
    return False


def _children(annotation: Any, data: Any) -> dict[str, Any]:
    """Return name -> annotation of the children of `data`."""
    if isinstance(data, dict):
        cls = _class_of(annotation, data)
        if cls is not None:
            return annotations_of(cls)
    for member in members_of(annotation):
        if get_origin(member) is tuple and isinstance(data, list):
            kinds = item_types(get_args(member), data, "")
            return {name: kinds[place] for name, place in _places(data).items()}
        if get_origin(member) is dict and isinstance(data, dict):
            return dict.fromkeys(data, get_args(member)[1])
    return {}


def _places(items: list[Any]) -> dict[str, int]:
    """Return name -> index of the items of a list; an item's names are its index and its field `name`."""
    named = {
        item["name"]: place
        for place, item in enumerate(items)
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    return {**{str(place): place for place in range(len(items))}, **named}


def _class_of(annotation: Any, data: Mapping[str, Any]) -> type | None:
    """Return the dataclass that `data` stores, or None if the annotation has none."""
    classes = classes_of(annotation)
    if classes is not None:
        return find_class(annotation, classes, data[TAG], TAG)
    return next((cast(type, member) for member in members_of(annotation) if is_dataclass(member)), None)


def _paths(annotation: Any, data: Any) -> Iterator[str]:
    """Yield the dotted paths of all descendants of `data`."""
    for name, kind in _children(annotation, data).items():
        yield name
        below = data[_places(data)[name]] if isinstance(data, list) else data.get(name)
        yield from (f"{name}.{path}" for path in _paths(kind, below))


def _make_group(annotation: Any, path: str) -> dict[str, Any]:
    """Return the JSON value of the group to create at `path`, where the value is None."""
    groups = [member for member in members_of(annotation) if is_dataclass(member)]
    classes = classes_of(annotation)
    if classes is not None:
        fail(path, None, f"choose its class first, {one_of(plain_names(classes))}")
    return _default_values(cast(type, groups[0])) if groups else {}


def _default_values(cls: type) -> dict[str, Any]:
    """Return the JSON values of the fields of `cls` that have defaults."""
    hints, found = annotations_of(cls), {}
    for field in fields(cls):
        if field.init and field.default is not MISSING:
            found[field.name] = encode(hints[field.name], field.default, f"{cls.__name__}.{field.name}")
        elif field.init and field.default_factory is not MISSING:
            made = field.default_factory()
            found[field.name] = encode(hints[field.name], made, f"{cls.__name__}.{field.name}")
    return found


def _parse(annotation: Any, text: str, path: str, current: Any) -> Any:
    """Parse `text` into the JSON value of a leaf, a class, or a list of these; `current` is the old value."""
    members = members_of(annotation)
    if types.NoneType in members and text.lower() in ("none", "null"):
        return None
    for member in members:
        if get_origin(member) is tuple:
            items = [item.strip() for item in text.strip("()[] ").split(",") if item.strip()]
            kinds = item_types(get_args(member), items, path)
            return [_parse(kind, item, join(path, i), None) for i, kind, item in number_items(kinds, items)]
    classes = classes_of(annotation)
    if classes is not None:
        return _choose_class(annotation, classes, text, path, current)
    for member in members:
        if is_dataclass(member) and _is_name_of(text, cast(type, member), path):
            return current if isinstance(current, dict) else _default_values(cast(type, member))
    if any(is_dataclass(member) or get_origin(member) is dict for member in members):
        below = [join(path, name) for name in _children(annotation, current)]
        what = "it is a group of fields" + (" and cannot be none" if text.lower() == "none" else "")
        fail(path, text, f"{what}, set {one_of(below)}" if below else what)
    for candidate in _readings(members, text):
        check_size(candidate, path)
        try:
            decode(annotation, candidate, path)
            return candidate
        except ConfigError:
            continue
    choices = choices_of(members)
    return fail(path, text, f"expected {one_of(choices, text) if choices else describe(annotation)}")


def _is_name_of(text: str, cls: type, path: str) -> bool:
    """Whether `text` is the name of `cls` (`Rates`, `mine.py:Rates`)."""
    if not modules.is_own(text):
        return text == cls.__name__
    try:
        return modules.load(text) is cls
    except UserError as error:
        raise ConfigError(f"{path}: {error}") from error


def _choose_class(
    annotation: Any, classes: Mapping[str, type], text: str, path: str, current: Any
) -> dict[str, Any]:
    """Return the JSON value of the class that `text` names (`Cosine`, `mine.py:Steep`).

    Its fields have their defaults, or their current values if the class does not change.
    """
    if modules.is_own(text):
        try:
            chosen = modules.load(text)
        except UserError as error:
            raise ConfigError(f"{path}: {error}") from error
        cls = require_class(annotation, chosen, text, path)
    else:
        cls = find_class(annotation, classes, text, path, f", and its fields below ({path}.…)")
    tag = modules.tag(cls)
    if isinstance(current, dict) and current.get(TAG) == tag:
        return current
    return {TAG: tag, **_default_values(cls)}


def _readings(members: tuple[Any, ...], text: str) -> Iterator[Any]:
    """Yield the possible values of `text`, strictest first: "6" in an `int | str` field is a number."""
    if text.lower() in ("true", "false"):
        yield text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            yield kind(text)
    yield text
