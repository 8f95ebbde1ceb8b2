"""Check annotations at each call: with jaxtyping where they state shapes, else with beartype alone.

The import hook of jaxtyping (pyproject.toml) wraps every function and binds the arguments of every call by
name, which took half of the suite's time. Only shapes need that: sizes that several arguments share.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

_check_shapes = jaxtyping.jaxtyped
_CONF = BeartypeConf(violation_type=TypeError)  # as jaxtyping's errors


def check_annotations(function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """Decorate as `jaxtyping.jaxtyped` does, or with beartype alone if no annotation states a shape."""
    if function is None:
        return lambda decorated: check_annotations(decorated, typechecker=typechecker)
    if inspect.isclass(function):
        if dataclasses.is_dataclass(function) and not _states_shapes(function.__init__):
            function.__init__ = _check_types(function.__init__)
            return function
    elif inspect.isfunction(function) and not _states_shapes(function):
        return _check_types(function)
    return _check_shapes(function, typechecker=typechecker)


def _check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    checked = beartype(conf=_CONF)(function)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:  # tests of wrong arguments switch all checks off
        return (function if jaxtyping.config.jaxtyping_disable else checked)(*arguments, **options)

    return call


def _states_shapes(function: Callable[..., Any]) -> bool:
    return any(_is_shape(annotation) for annotation in function.__annotations__.values())


def _is_shape(annotation: Any) -> bool:
    if isinstance(annotation, str):  # a name that is not defined yet: jaxtyping skips what it cannot resolve
        return True
    is_array = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return is_array or any(_is_shape(part) for part in typing.get_args(annotation) if part is not annotation)


jaxtyping.jaxtyped = check_annotations
