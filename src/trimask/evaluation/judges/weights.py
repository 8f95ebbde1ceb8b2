"""Weights of judges from `.pt` files: pinned ones by their hash, and no pickled code ever runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trimask.evaluation.judges.pinned import PINNED, check


def load_pinned(folder: Path, name: str) -> Mapping[str, Any]:
    """What the one weights file of pinned judge `name` in `folder` holds, after its hash was compared.

    Raises:
        FileNotFoundError, UserError: no such file, or not the pinned one.
    """
    check(folder, name)
    (file,) = PINNED[name].files
    return torch.load(folder / file, map_location="cpu", weights_only=True)


def pinned_name(source: str) -> str | None:
    """Which pinned judge lies in the folder `source`, told by its files' names; None for any other source."""
    folder = Path(source)
    if not folder.is_dir():
        return None
    for name, judge in PINNED.items():
        weights = next(iter(judge.files))
        # `model.bin` and `model.safetensors` are anyone's names: there the folder's own name decides.
        is_own = not weights.startswith("model.") or folder.name == name
        if is_own and (folder / weights).exists():
            return name
    return None
