"""Check the types of a generation request before anything is computed."""

import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from trimask.errors import UserError
from trimask.sampling.config import SamplerConfig

_MOST_NUMBER = 2**63 - 1
_IMAGE = "a PIL image, a file name, encoded bytes, or codes as an integer array (cells × codebooks)"
_SPEECH = "(waveform, rate in Hz), a waveform, a file name, encoded bytes, or codes as an integer array"
_MASK = "a picture or a file of one, white where to paint, or booleans (rows × columns of cells)"
_WHOLE = ("seed", "num_samples", "batch_size", "num_steps", "num_frames", "span_length")
_REAL = ("guidance_scale", "temperature", "top_p")
_ALWAYS = ("seed", "num_samples", "batch_size", "num_frames", "raw_prompt")


def check_request(**given: Any) -> None:
    """Check the types of the options of `Generator.generate_each`; None means not given. Bounds are checked
    by the code that knows them.

    Raises:
        UserError: a value of the wrong type, or text that is not UTF-8; with what to give.
    """
    for name, value in given.items():
        if value is None and name not in _ALWAYS:
            continue
        if name in _WHOLE:
            _check(name, value, _is_whole(value), "a whole number")
        elif name in _REAL:
            _check(name, value, _is_real(value), "a number")
        elif name in ("pair", "voice", "negative_prompt"):
            _check(name, value, _is_text(value), "text")
        elif name == "mask":
            _check(name, value, _is_file(value) or _is_cells(value) or _is_picture(value), _MASK)
        elif name == "seconds":
            _check(name, value, _is_interval(value), "a pair (start, end)")
        elif name == "raw_prompt":
            _check(name, value, isinstance(value, bool), "True or False")
        elif name == "config":
            _check(name, value, isinstance(value, SamplerConfig), "a SamplerConfig")
        elif name == "callback":
            _check(name, value, callable(value), "a function of an Event")
        elif name == "codes":
            _check(name, value, isinstance(value, Mapping), "arrays by modality")
        elif name == "numbers":
            _check(name, value, _are_numbers(value), "a list of whole numbers of at least 0")


def check_example(given: Mapping[str, Any]) -> None:
    """Check the inputs of one example, by modality.

    Raises:
        UserError: a value of the wrong type, or text that is not UTF-8; with what to give.
    """
    for modality, value in given.items():
        if value is None:
            continue
        if modality == "text":
            _check("prompt", value, _is_text(value) or _is_codes(value), "text, or a list of texts")
        elif modality == "image":
            _check("image", value, _is_file(value) or _is_codes(value) or _is_picture(value), _IMAGE)
        elif modality == "speech":
            is_pair = isinstance(value, tuple) and len(value) == 2 and _is_array(value[0])
            _check("speech", value, _is_file(value) or is_pair or _is_array(value), _SPEECH)
        else:
            _check(modality, value, _is_codes(value), "codes as an integer array (frames × codebooks)")


def align_examples(task: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs of each example by modality: the one given as a list sets their number."""
    many = [modality for modality, value in given.items() if is_many(value)]
    names = ["prompt" if modality == "text" else modality for modality in many]
    if len(many) > 1:
        raise UserError(f"task {task} takes one list, not {' and '.join(names)}")
    if not many:
        return [given]
    if not given[many[0]]:
        raise UserError(f"{names[0]} is an empty list: give at least one")
    return [given | {many[0]: value} for value in given[many[0]]]


def check_number(name: str, value: Any) -> None:
    """Raise UserError unless `value` is a finite number."""
    _check(name, value, _is_real(value), "a number")


def describe_value(value: Any) -> str:
    """Describe `value` briefly on one line."""
    if isinstance(value, np.ndarray):
        kind = "a masked array" if isinstance(value, np.ma.MaskedArray) else "an array"
        return f"{kind} of shape {value.shape} of {value.dtype}"
    return " ".join(reprlib.repr(value).split())


def _check(name: str, value: Any, holds: bool, wanted: str) -> None:
    if not holds:
        raise UserError(f"{name} is {describe_value(value)}: give {wanted}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        return False
    if getattr(value, "ndim", 1) != 1:
        return False
    items: list[Any] = list(value)
    return all(_is_whole(item) and 0 <= item <= _MOST_NUMBER for item in items)


def _is_real(value: Any) -> bool:
    if isinstance(value, float | np.floating) or _is_whole(value):
        return math.isfinite(value) if not isinstance(value, int) else abs(value) <= _MOST_NUMBER
    return False


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return value.encode() is not None
    except UnicodeEncodeError:  # half a character
        return False


def _is_file(value: Any) -> bool:
    if isinstance(value, str | Path):
        return _is_text(str(value)) and value != "" and "\0" not in str(value)
    return isinstance(value, bytes)


def _is_array(value: Any) -> bool:
    """Return whether `value` is an unmasked array."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def _is_codes(value: Any) -> bool:
    return _is_array(value) and value.ndim == 2 and value.dtype.kind in "iu"


def _is_cells(value: Any) -> bool:
    return _is_array(value) and value.ndim == 2 and value.dtype == bool


def _is_interval(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(_is_real(each) for each in value)


def _is_picture(value: Any) -> bool:
    return isinstance(value, PIL.Image.Image)


def is_many(value: Any) -> bool:
    """Return whether `value` lists several inputs; a tuple that ends in a number is a waveform and its
    rate."""
    is_recording = isinstance(value, tuple) and len(value) == 2 and np.isscalar(value[1])
    return isinstance(value, list | tuple) and not (is_recording and not isinstance(value[1], str))
