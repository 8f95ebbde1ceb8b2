"""Write a model as a folder that `trimask.load` reads: a run's directory without what only training needs.

It holds `model.safetensors`, `config.json`, `tokenizers/`, `seen.json`, `README.md` (the model card), and as
far as the model has them `lengths.json`, `presets.json`, `scorecard.json` and `modules/` (user code).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from trimask import io
from trimask.config import to_dict
from trimask.errors import UserError
from trimask.model.weights import load_denoiser, save_denoiser
from trimask.runs.lengths import save_lengths
from trimask.runs.presets import PRESETS, hash_weights
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.runs.seen import save_seen
from trimask.sharing.card import write_card
from trimask.sharing.contents import CARD, SCORES, Contents, gather_contents
from trimask.tokenizers.bundle import copy_tokenizer, hashes
from trimask.training.run_directory import CONFIG

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def save_model(
    run: str | Path,
    folder: str | Path,
    *,
    dtype: str = "float32",
    name: str | None = None,
    license: str | None = None,
    languages: Sequence[str] = (),
) -> dict[str, str]:
    """Write the model of `run` into `folder`, whole or not at all; return its facts (`recipe`, `steps`).

    In float32 it is the same model: all samples are equal to the last bit. Paths of the run's data are
    replaced by names.

    Args:
        run: a run directory, one of its checkpoints, an exported file, or `quickstart`.
        folder: must not exist, or be empty.
        name: the model's name in the card; by default that of the folder.

    Raises:
        FileNotFoundError, UserError: there is no such run, a file of it is damaged, or `folder` is not empty.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}: give one of {', '.join(DTYPES)}")
    contents = gather_contents(run)
    with io.atomic_folder(folder) as out:
        _write_files(contents, out, DTYPES[dtype])
        card = write_card(
            contents,
            name=name or Path(folder).absolute().name,
            dtype=dtype,
            license=license,
            languages=languages,
        )
        (out / CARD).write_text(card, encoding="utf-8")
    return {key: contents.facts[key] for key in ("recipe", "steps") if key in contents.facts}


def _write_files(contents: Contents, out: Path, dtype: torch.dtype) -> None:
    named = hashes(contents.tokenizers)
    recipe = contents.facts.get("recipe", "unknown")
    facts = {key: contents.facts[key] for key in ("steps",) if key in contents.facts}
    save_denoiser(
        out / MODEL,
        contents.denoiser,
        dtype=dtype,
        is_main=True,
        recipe=recipe,
        tokenizers=json.dumps(named),
        **facts,
    )
    copy_tokenizer(contents.tokenizers, out / TOKENIZERS)
    config = to_dict(contents.config)
    io.write_sealed(out / CONFIG, {"recipe": recipe, "run": config, "tokenizers": named})
    save_seen(out, contents.seen)
    if contents.lengths is not None:
        save_lengths(out, contents.lengths)
    presets = contents.presets
    if presets is not None:
        presets = replace(presets, weights=hash_weights(load_denoiser(out / MODEL)))  # of the rounded weights
        io.write_json(out / PRESETS, to_dict(presets))
    if contents.scores is not None:
        io.write_json(out / SCORES, contents.scores)
    denoiser = contents.denoiser
    stored = [config, to_dict(denoiser.config), to_dict(denoiser.vocabulary)]
    io.keep_modules([*stored, None if presets is None else to_dict(presets)], out)
