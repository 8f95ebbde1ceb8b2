"""Check a shard's tensors; a hash only proves who wrote the file, not that it is a valid shard."""

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from trimask.errors import UserError
from trimask.vocabulary.layout import CodeSpace, Vocabulary
from trimask.vocabulary.task import MODALITIES

_ROWS = 1_000_000  # of codes that are looked at together
_CODE_TYPES = ("U16", "I32")


def check_layout(file: Any, where: str, *, num_examples: int, tokens: dict[str, int]) -> None:
    """Raise UserError unless an open shard's tensors fit `num_examples` and `tokens` (codes per modality).
    Codes are not read.
    """
    names = set(file.keys())
    ragged = ["keys", *tokens, *(["languages"] if "languages.values" in names else [])]
    expected = {"groups", *(f"{name}.{part}" for name in ragged for part in ("values", "offsets"))}
    if names != expected:
        _fail(where, f"it has {', '.join(sorted(names))[:200]}")
    _check(file, where, "groups", types=("I64",), shape=(num_examples,))
    for name in ragged:
        values, offsets = f"{name}.values", f"{name}.offsets"
        _check(file, where, offsets, types=("I64",), shape=(num_examples + 1,))
        if name in tokens:
            _check(file, where, values, types=_CODE_TYPES, shape=(None, None))
        else:
            _check(file, where, values, types=("U8",), shape=(None,))
        length, *books = file.get_slice(values).get_shape()
        if name in tokens and length * books[0] != tokens[name]:
            _fail(where, f"{values} has {length * books[0]} codes instead of {tokens[name]}")
        bounds = file.get_slice(offsets)[:]
        if bounds[0] != 0 or bounds[-1] != length or (bounds[1:] < bounds[:-1]).any():
            _fail(where, f"{offsets} are no boundaries of {length}")


def check_codes(
    file: Any, where: str, vocabulary: Vocabulary, *, tokens: dict[str, int], longest: int | None
) -> None:
    """Raise UserError if an open shard of valid layout holds codes that these tokenizers cannot produce, or
    that the row of a run's own modality does not state.

    Args:
        longest: maximum frames of a text, if known.
    """
    for name in tokens:
        space = vocabulary.space(name)
        values = file.get_slice(f"{name}.values")
        rows, num_codebooks = values.get_shape()
        if num_codebooks != space.num_codebooks:
            _fail_space(where, space, f"{num_codebooks} codebooks", f"{space.num_codebooks}")
        low, high = _span(values, rows)
        if low < 0 or high >= space.codebook_size:
            _fail_space(where, space, f"codes from {low} to {high}", f"0 to {space.codebook_size - 1}")
        frames = np.diff(file.get_slice(f"{name}.offsets")[:])
        if space.grid is not None and (frames != space.grid[0] * space.grid[1]).any():
            _fail_space(where, space, f"spans of {frames.min()} to {frames.max()} cells", f"{space.grid}")
        if name == "text" and longest is not None and frames.max(initial=0) > longest:
            _fail(where, f"a passage of {frames.max()} tokens, longer than the text window of {longest}")


def _fail_space(where: str, space: CodeSpace, found: str, expected: str) -> NoReturn:
    if space.name in MODALITIES:
        _fail(where, f"{space.name} has {found} instead of {expected}")
    stated = f"num_codebooks={space.num_codebooks}, codebook_size={space.codebook_size}, grid={space.grid}"
    raise UserError(
        f"{where} has {space.name} with {found}, and the run's CodeSpace {space.name} has {stated}: change "
        "the CodeSpace to fit the data, or give other data"
    )


def _span(values: Any, rows: int) -> tuple[int, int]:
    low, high = 0, 0
    for part in _parts(values, rows):
        low, high = min(low, int(part.min())), max(high, int(part.max()))
    return low, high


def _parts(values: Any, rows: int) -> Iterator[np.ndarray]:
    for start in range(0, rows, _ROWS):
        part = values[start : min(start + _ROWS, rows)]
        if part.size:
            yield part


def _check(
    file: Any, where: str, name: str, *, types: tuple[str, ...], shape: tuple[int | None, ...]
) -> None:
    found = file.get_slice(name)
    sizes, kind = tuple(found.get_shape()), found.get_dtype()
    is_shape = len(sizes) == len(shape) and all(w in (None, s) for s, w in zip(sizes, shape, strict=True))
    if kind not in types or not is_shape:
        _fail(where, f"{name} is {kind} of shape {sizes}")


def _fail(where: str, what: str) -> NoReturn:
    raise UserError(f"{where} is not a shard as `trimask prepare` writes it ({what}): prepare the data again")
