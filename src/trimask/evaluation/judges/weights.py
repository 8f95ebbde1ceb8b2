"""Load the pinned weights of judges from `.pt` files, after a check of their hash, without pickled code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trimask.evaluation.judges.pinned import PINNED, check


def load_pinned(folder: Path, name: str) -> Mapping[str, Any]:
    """Load the weights file of pinned judge `name` in `folder`, after checking its hash.

    Raises:
        FileNotFoundError, UserError: no such file, or not the pinned one.
    """
    check(folder, name)
    (file,) = PINNED[name].files
    return torch.load(folder / file, map_location="cpu", weights_only=True)


def pinned_name(source: str) -> str | None:
    """Return the name of the pinned judge in the folder `source`, by its files; None if there is none."""
    folder = Path(source)
    if not folder.is_dir():
        return None
    for name, judge in PINNED.items():
        weights = next(iter(judge.files))
        # `model.bin` and `model.safetensors` are common names: for these, compare the folder's name too.
        is_pinned = not weights.startswith("model.") or folder.name == name
        if is_pinned and (folder / weights).exists():
            return name
    return None
