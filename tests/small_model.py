"""The directory of a finished run, of a small model whose weights are drawn, over given tokenizers."""

from dataclasses import replace
from pathlib import Path

import torch

from narrow import resolve_run
from trimask import io
from trimask.config import to_dict
from trimask.diffusion.schedule import Schedule
from trimask.generation.length import LengthPolicy
from trimask.generation.prompts import Seen, SeenTexts
from trimask.model.weights import save_denoiser
from trimask.runs.build import build_denoiser, build_vocabulary
from trimask.runs.lengths import save_lengths
from trimask.runs.presets import PRESETS, Presets, hash_weights
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.runs.seen import save_seen
from trimask.sampling.config import SamplerConfig
from trimask.tokenizers.bundle import Tokenizers, copy_tokenizer
from trimask.training.run import RunConfig
from trimask.training.run_directory import CONFIG


def write_small_model(folder: Path, tokenizers: Path, *, schedule: Schedule | None = None) -> RunConfig:
    """Write the directory, with presets, lengths and prompt statistics, and the code of a user's schedule."""
    config = resolve_run("debug")
    config = replace(config, sampler={"text": SamplerConfig(num_steps=3), **config.sampler})
    if schedule is not None:
        config = config.with_modality("image", schedule=schedule)
    loaded = Tokenizers.load(tokenizers)
    denoiser = build_denoiser(config, build_vocabulary(config, loaded))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    folder.mkdir(parents=True)
    save_denoiser(folder / MODEL, denoiser, recipe="debug", steps="20")
    copy_tokenizer(tokenizers, folder / TOKENIZERS)
    stored = {"recipe": "debug", "run": to_dict(config), "tokenizers": dict(loaded.hashes)}
    io.write_sealed(folder / CONFIG, stored)
    io.keep_modules(stored, folder)
    texts = SeenTexts(
        words=("apple", "red"),
        is_whole=True,
        is_lower=True,
        closing="",
        has_articles=False,
        openings=(),
        longest=9,
    )
    save_seen(
        folder, Seen(tasks=("text_to_image", "text_to_speech", "text"), captions=texts, voices={"slt": 3})
    )
    save_lengths(folder, replace(LengthPolicy().at(loaded.speech.frame_rate), max_prompt=17))
    presets = {"fast": {"text_to_image": SamplerConfig(num_steps=2)}}
    io.write_json(folder / PRESETS, to_dict(Presets(weights=hash_weights(denoiser), presets=presets)))
    return config
