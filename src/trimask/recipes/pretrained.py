"""From a name or a folder to a model that generates."""

from dataclasses import replace
from pathlib import Path

from trimask import io
from trimask.config import from_dict
from trimask.model.denoiser import Denoiser
from trimask.model.weights import load_denoiser
from trimask.recipes.lengths import load_lengths
from trimask.recipes.pretrain import MODEL, TOKENIZERS, build_denoiser
from trimask.sampling.generate import Generator
from trimask.tokenizers.bundle import SHIPPED, Tokenizers
from trimask.training.checkpoint import Checkpoints
from trimask.training.compute import ComputeConfig
from trimask.training.run import RunConfig

QUICKSTART = Path(__file__).parents[1] / "assets" / "quickstart" / MODEL


def load(run: str | Path) -> Generator:
    """A generator from `run`: a run directory, or `quickstart`, the model that ships.

    Raises:
        FileNotFoundError, ValueError: no such run, or a file in it that is damaged or not ours; the
            message names it and the mend.
    """
    lengths = None
    if str(run) == "quickstart" and not Path(run).is_dir():
        if not QUICKSTART.exists():
            raise FileNotFoundError(
                f"the shipped model is missing at {QUICKSTART}: install the package again, or train your own"
            )
        denoiser, tokenizers = load_denoiser(QUICKSTART), Tokenizers.load(SHIPPED)
    else:
        folder = Path(run)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is no run directory: give one that `trimask train` made, or `quickstart`"
            )
        denoiser, tokenizers = _load_run(folder)
        lengths = load_lengths(folder)
    return Generator(
        denoiser, text=tokenizers.text, image=tokenizers.image, speech=tokenizers.speech, lengths=lengths
    )


def _load_run(folder: Path) -> tuple[Denoiser, Tokenizers]:
    """The finished model of a run, or else its newest whole checkpoint."""
    config_file = folder / "config.json"
    if not config_file.exists() or not (folder / TOKENIZERS).is_dir():
        raise ValueError(f"{folder} is not a run directory: it has no config.json and tokenizers/")
    tokenizers = Tokenizers.load(folder / TOKENIZERS)
    if (folder / MODEL).exists():
        return load_denoiser(folder / MODEL), tokenizers
    stored = io.read_json(config_file)
    if not isinstance(stored, dict) or "run" not in stored:
        raise ValueError(f"{config_file} does not describe a run of the denoiser")
    # Whatever it was computed on: here it is for generating, on one device.
    config = replace(from_dict(RunConfig, stored["run"]), compute=ComputeConfig())
    denoiser = build_denoiser(config, tokenizers)
    weights = {f"denoiser.{name}": tensor for name, tensor in denoiser.state_dict().items()}
    if Checkpoints(folder, config=stored, keep=1).load_newest(weights) is None:
        raise ValueError(
            f"{folder} has no checkpoint yet: let it train until the first one (checkpoint_every steps)"
        )
    return denoiser.eval(), tokenizers
