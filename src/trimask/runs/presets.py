"""Sampler settings that a study chose for a run, by how much likelihood they may cost."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

from trimask import io
from trimask.config import from_dict
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser
from trimask.sampling.config import SamplerConfig

PRESETS = "presets.json"
Preset = Literal["fast", "balanced", "best"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Presets:
    """Sampler settings by task name, from the fewest passes to the best likelihood.

    They say how slots are revealed, which is what the exact likelihood can rank; filters and guidance are
    none in them, and spans as given.

    Attributes:
        weights: `hash_weights` of the model that they were chosen for.
    """

    weights: str
    fast: dict[str, SamplerConfig]
    balanced: dict[str, SamplerConfig]
    best: dict[str, SamplerConfig]

    def apply(self, preset: Preset, samplers: Mapping[str, SamplerConfig]) -> dict[str, SamplerConfig]:
        """Return `samplers` with those of the preset's tasks, but their own filters, guidance and length."""
        chosen: dict[str, SamplerConfig] = getattr(self, preset)
        return {
            task: replace(
                chosen[task],
                filters=own.filters,
                guidance_scale=own.guidance_scale,
                guidance_ramp=own.guidance_ramp,
                length=own.length,
            )
            if task in chosen
            else own
            for task, own in samplers.items()
        }


def load_presets(path: Path, denoiser: Denoiser) -> Presets:
    """Load the presets of a model.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is damaged, or is of another model.
    """
    fix = "run `trimask study run sampling` again"
    stored = io.read_json(path, fix=fix)
    try:
        presets = from_dict(Presets, stored)
    except ValueError as error:
        raise UserError(f"{path} does not hold presets ({error}): {fix}") from error
    if presets.weights != hash_weights(denoiser):
        raise UserError(f"{path} has presets of a model with other weights: {fix}, with --run")
    return presets


def hash_weights(denoiser: Denoiser) -> str:
    """Return a hash of names, shapes and values of the weights as float32: 16 hex digits."""
    digest = hashlib.sha256()
    for name, parameter in sorted(denoiser.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
