"""Store a denoiser in one file: weights, size, and the vocabulary of its ids."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from trimask import io, modules
from trimask.config import from_dict, to_dict
from trimask.devices import gather
from trimask.errors import UserError
from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.seals import parse_json
from trimask.vocabulary.layout import Vocabulary

logger = logging.getLogger(__name__)

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

    A sharded denoiser is gathered tensor by tensor by all of its processes, and written by the main one.
    """
    config = {"denoiser": to_dict(denoiser.config), "vocabulary": to_dict(denoiser.vocabulary)}
    tensors = {}
    for name, parameter in denoiser.named_parameters():
        tensor = gather(parameter).detach()
        if is_main:
            tensors[name] = tensor.to("cpu", dtype)
    if is_main:
        io.save_tensors(path, tensors, kind=KIND, config=config, **metadata)


def load_denoiser(path: Path) -> Denoiser:
    """Read what `save_denoiser` wrote, as float32. Raises like `read_denoiser`."""
    return read_denoiser(path)[0]


def read_denoiser(path: Path) -> tuple[Denoiser, dict[str, str]]:
    """Read a denoiser like `load_denoiser`, with the additional metadata.

    Raises:
        FileNotFoundError, UserError: missing, damaged, not a denoiser of ours, weights that do not fit its
            config, or a module of the user's that is missing.
    """
    artifact = io.load_tensors(path, kind=KIND)
    modules.load_all(artifact.config, path.parent)
    try:
        config = from_dict(DenoiserConfig, artifact.config.get("denoiser"))
        vocabulary = from_dict(Vocabulary, artifact.config.get("vocabulary"))
    except ValueError as error:
        raise UserError(f"{path}: its configuration is none of a denoiser ({error})") from error
    with torch.device("meta"):  # never allocate a size that the file states but does not contain
        denoiser = Denoiser(config, vocabulary)
    try:
        weights = {name: tensor.float() for name, tensor in artifact.tensors.items()}
        denoiser.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: the weights do not fit the configuration beside them ({first})") from error
    return denoiser.eval(), artifact.metadata


def check_fit(denoiser: Denoiser, config: DenoiserConfig, vocabulary: Vocabulary) -> None:
    """UserError if the weights of `denoiser` cannot be those of a model of this size and vocabulary.

    How text is aligned with speech, the axes of pictures, what conditions attend to, and what logits are
    normalized over may differ: that can be learned anew.
    """
    theirs = denoiser.vocabulary
    vocabulary = replace(vocabulary, alignment=theirs.alignment, picture_axes=theirs.picture_axes)
    for what, own, ours in (
        ("width", denoiser.config.width, config.width),
        ("depth", denoiser.config.depth, config.depth),
        ("num_heads", denoiser.config.num_heads, config.num_heads),
        ("qk_norm", denoiser.config.qk_norm.value, config.qk_norm.value),
        ("vocabulary", theirs, vocabulary),
    ):
        if own != ours:
            raise UserError(f"the weights are of a model with {what} {own}, and this one has {ours}")


def check_tokenizers(path: Path, metadata: Mapping[str, str], hashes: Mapping[str, str]) -> None:
    """UserError if the weights in the file `path`, with this metadata, were trained over other tokenizers
    than those of `hashes`: of equal sizes, their ids would mean something else.

    A file that does not name its tokenizers is taken with a warning.
    """
    named = stored_hashes(path, metadata)
    if named is None:
        logger.warning("%s does not name its tokenizers: make sure that they are those of this run", path)
        return
    other = sorted(name for name in named.keys() | hashes.keys() if named.get(name) != hashes.get(name))
    if other:
        raise UserError(
            f"the weights in {path} were trained over other tokenizers ({', '.join(other)} differ): train "
            "over theirs (--tokenizers DIR, or data that was prepared with them), or leave --weights out"
        )


def stored_hashes(path: Path, metadata: Mapping[str, str]) -> dict[str, str] | None:
    """SHA-256 of the tokenizers that the weights in the file `path` were trained over, where it says so."""
    text = metadata.get("tokenizers")
    if text is None:
        return None
    try:
        named = parse_json(text)
    except ValueError:
        named = None
    if not isinstance(named, dict) or not all(isinstance(value, str) for value in named.values()):
        raise UserError(f"{path} is damaged: its list of tokenizers cannot be read; export it again")
    return named
