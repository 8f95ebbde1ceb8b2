"""Sampler settings under names such as `fast`, `balanced` and `best`, which a study chose for a model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask import io, modules
from trimask.config import from_dict
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.reading import find_problem
from trimask.sampling.config import SamplerConfig

PRESETS = "presets.json"
_FIX = "run `trimask study run sampling --run RUN` again"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Presets:
    """Sampler settings by preset name and task name.

    Attributes:
        weights: `hash_weights` of the model that they were chosen for.
    """

    weights: str
    presets: dict[str, dict[str, SamplerConfig]]

    def find(self, name: str) -> Mapping[str, SamplerConfig]:
        """Return the sampler settings of a preset by task name.

        Raises:
            UserError: no preset has this name.
        """
        if name not in self.presets:
            fix = f"choose one of {', '.join(self.presets)}" if self.presets else f"there is none; {_FIX}"
            raise UserError(f"no preset is named {name!r}: {fix}")
        return self.presets[name]


def load_presets(path: Path, denoiser: Denoiser) -> Presets:
    """Load the presets of a model from the file `path`.

    Raises:
        UserError: the file is missing or damaged, or has presets of another model.
    """
    if (problem := find_problem(path)) is not None:
        raise UserError(f"presets {path} {problem}")
    presets = read_presets(io.read_json(path, fix=_FIX), path)
    if presets.weights != hash_weights(denoiser):
        raise UserError(f"{path} has presets of a model with other weights: {_FIX}")
    return presets


def read_presets(stored: Any, path: Path) -> Presets:
    """Read presets from JSON values that come from the file `path`. UserError if they are damaged."""
    modules.load_all(stored, path.parent)
    try:
        return from_dict(Presets, stored)
    except ValueError as error:
        raise UserError(f"{path} does not hold presets ({error}): {_FIX}") from error


def hash_weights(denoiser: Denoiser) -> str:
    """Return a hash of names, shapes and values of the weights as float32: 16 hex digits."""
    digest = hashlib.sha256()
    for name, parameter in sorted(denoiser.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
