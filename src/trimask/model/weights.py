"""A denoiser in one file: weights, size, and the vocabulary that its ids mean."""

from pathlib import Path

import torch

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.devices import gathered
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.vocabulary.layout import Vocabulary

KIND = "denoiser"


def save_denoiser(
    path: Path,
    denoiser: Denoiser,
    *,
    dtype: torch.dtype = torch.float32,
    is_main: bool = True,
    **metadata: str,
) -> None:
    """Write `denoiser` as safetensors, in `dtype` (float16 to ship, float32 to go on training).

    A sharded one is gathered tensor by tensor, which takes all of its processes, and written by the main one.
    """
    config = {"denoiser": to_dict(denoiser.config), "vocabulary": to_dict(denoiser.vocabulary)}
    tensors = {}
    for name, parameter in denoiser.named_parameters():
        tensor = gathered(parameter).detach()
        if is_main:
            tensors[name] = tensor.to("cpu", dtype)
    if is_main:
        io.save_tensors(path, tensors, kind=KIND, config=config, **metadata)


def load_denoiser(path: Path) -> Denoiser:
    """Read what `save_denoiser` wrote, as float32. Raises as `read_denoiser`."""
    return read_denoiser(path)[0]


def read_denoiser(path: Path) -> tuple[Denoiser, dict[str, str]]:
    """As `load_denoiser`, with the further metadata.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, not a denoiser of ours, or weights that do not fit
            its config.
    """
    artifact = io.load_tensors(path, kind=KIND)
    try:
        config = from_dict(DenoiserConfig, artifact.config.get("denoiser"))
        vocabulary = from_dict(Vocabulary, artifact.config.get("vocabulary"))
    except ValueError as error:
        raise ValueError(f"{path}: its configuration is none of a denoiser ({error})") from error
    with torch.device("meta"):  # a size that the file states and does not have is never allocated
        denoiser = Denoiser(config, vocabulary)
    try:
        weights = {name: tensor.float() for name, tensor in artifact.tensors.items()}
        denoiser.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: the weights do not fit the configuration beside them ({first})") from error
    return denoiser.eval(), artifact.metadata


def check_fit(denoiser: Denoiser, config: DenoiserConfig, vocabulary: Vocabulary) -> None:
    """ValueError if the weights of `denoiser` cannot be those of a model of this size and vocabulary."""
    for what, theirs, ours in (
        ("width", denoiser.config.width, config.width),
        ("depth", denoiser.config.depth, config.depth),
        ("num_heads", denoiser.config.num_heads, config.num_heads),
        ("vocabulary", denoiser.vocabulary, vocabulary),
    ):
        if theirs != ours:
            raise ValueError(f"the weights are of a model with {what} {theirs}, and this one has {ours}")
