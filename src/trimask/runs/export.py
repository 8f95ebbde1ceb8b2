"""A run's weights as one file: to ship, to hand on, to start another run from."""

from pathlib import Path

import torch

from trimask.config import to_dict
from trimask.model.weights import save_denoiser
from trimask.runs.load import facts_of, load_trained
from trimask.seals import parse_json
from trimask.training.run_directory import keep_modules


def export(run: str | Path, out: Path, *, dtype: torch.dtype = torch.float16) -> dict[str, str]:
    """Write the weights of `run` to the safetensors file `out`; what is said of them (`recipe`, `steps`).

    `run`: a run directory, finished or not, or the folder of a checkpoint, by however many processes it was
    written. Read back they are float32, rounded to `dtype`. With them go the run's configuration, the hashes
    of its tokenizers, the lengths of its spans and what its prompts need to know of its data. Code of the
    user's own goes beside it, into the folder `modules`.

    Raises:
        FileNotFoundError, UserError: no such run, or a file in it that is damaged.
    """
    denoiser, metadata = load_trained(run)
    facts = facts_of(run)
    stored = [to_dict(denoiser.config), to_dict(denoiser.vocabulary), *map(parse_json, facts.values())]
    keep_modules(stored, out.parent)
    save_denoiser(out, denoiser, dtype=dtype, is_main=True, **(metadata | facts))
    return {name: metadata[name] for name in ("recipe", "steps") if name in metadata}
