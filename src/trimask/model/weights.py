"""A denoiser in one file: weights, size, and the vocabulary that its ids mean."""

from pathlib import Path

import torch

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.layout import Vocabulary

KIND = "denoiser"


def save_denoiser(
    path: Path, denoiser: Denoiser, *, dtype: torch.dtype = torch.float32, **metadata: str
) -> None:
    """Write `denoiser` as safetensors, in `dtype` (float16 to ship, float32 to go on training)."""
    config = {"denoiser": to_dict(denoiser.config), "vocabulary": to_dict(denoiser.vocabulary)}
    tensors = {name: parameter.detach().to(dtype) for name, parameter in denoiser.named_parameters()}
    io.save_tensors(path, tensors, kind=KIND, config=config, **metadata)


def load_denoiser(path: Path) -> Denoiser:
    """Read what `save_denoiser` wrote, as float32.

    Raises:
        FileNotFoundError, ValueError: missing, truncated, not a denoiser of ours, or weights that do not
            fit its config.
    """
    artifact = io.load_tensors(path, kind=KIND)
    denoiser = Denoiser(
        from_dict(DenoiserConfig, artifact.config["denoiser"]),
        from_dict(Vocabulary, artifact.config["vocabulary"]),
    )
    try:
        denoiser.load_state_dict({name: tensor.float() for name, tensor in artifact.tensors.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: the weights do not fit the configuration beside them ({first})") from error
    return denoiser.eval()
