"""Export a run's weights as one file: to share, or to start another run from."""

import json
from pathlib import Path

import torch

from trimask import io
from trimask.config import to_dict
from trimask.model.weights import save_denoiser
from trimask.runs.exported import PRESETS_FACT
from trimask.runs.load import find_presets_file, load_trained, read_facts
from trimask.runs.presets import load_presets
from trimask.seals import parse_json


def export(run: str | Path, out: Path, *, dtype: torch.dtype = torch.float16) -> dict[str, str]:
    """Write the weights of `run` to the safetensors file `out`; return their facts (`recipe`, `steps`).

    `run`: a run directory, finished or not, or the folder of a checkpoint, written by any number of
        processes. Weights are rounded to `dtype` and load as float32. The file also holds the run's
        configuration, tokenizer hashes, span lengths, prompt statistics and presets. User code is copied into
        the folder `modules` beside it.

    Raises:
        FileNotFoundError, UserError: no such run, or a file in it that is damaged; its presets are of other
            weights.
    """
    denoiser, metadata = load_trained(run)
    facts = read_facts(run)
    presets = find_presets_file(run)
    if presets is not None and presets.exists():
        facts[PRESETS_FACT] = json.dumps(to_dict(load_presets(presets, denoiser)), ensure_ascii=False)
    stored = [to_dict(denoiser.config), to_dict(denoiser.vocabulary), *map(parse_json, facts.values())]
    io.keep_modules(stored, out.parent)
    save_denoiser(out, denoiser, dtype=dtype, is_main=True, **(metadata | facts))
    return {name: metadata[name] for name in ("recipe", "steps") if name in metadata}
