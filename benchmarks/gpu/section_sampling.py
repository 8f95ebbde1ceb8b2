"""How fast the sampler, as it is, fills pictures, speech and text with a model of the pilot's size and random
weights.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from faster_passes import faster_passes
from filling import measured
from setting import Part, Setting, initialize_here, sized, timed, vocabulary

from trimask import rng
from trimask.data.selection import StatedData
from trimask.model.denoiser import Denoiser
from trimask.recipes.reference import pilot_320m
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import Ancestral
from trimask.sampling.filters import Temperature
from trimask.sampling.grid import Cosine
from trimask.sampling.order import Confidence, Random
from trimask.sampling.predictor import DenoiserPredictor
from trimask.training.run import RunConfig
from trimask.vocabulary.batch import make_batch
from trimask.vocabulary.sequence import Sequence, build_sequence

_PROMPT = 64


def run(setting: Setting, part: Part) -> None:
    config = sized(setting, pilot_320m)
    documents = partial(_documents, setting, config)
    steps = 4 if setting.is_tiny else 64
    image = SamplerConfig(num_steps=steps, grid=Cosine(), order=Confidence(noise_temperature=4.5))
    speech = replace(image, num_steps=steps // 2, order=Confidence(noise_temperature=0.5), guidance_scale=3.0)
    text = SamplerConfig(num_steps=steps, count=Ancestral(), filters=(Temperature(value=0.7),))
    works = {
        "image": ("text_to_image", 8, image),
        "image_guided": ("text_to_image", 8, replace(image, guidance_scale=5.0)),
        "image_ancestral": ("text_to_image", 8, replace(image, order=Random(), count=Ancestral())),
        "image_guided_64_at_once": ("text_to_image", 64, replace(image, guidance_scale=5.0)),
        "image_alone": ("text_to_image", 1, image),
        "speech_guided": ("text_to_speech", 8, speech),
        "text": ("text", 32, text),
    }
    precisions = [torch.bfloat16, torch.float32] if setting.on_gpu else [torch.float32]
    for dtype in precisions:
        with torch.device(setting.device):
            denoiser = Denoiser(config.model, vocabulary(config))
        initialize_here(denoiser, 0)
        denoiser = denoiser.to(dtype).eval()
        if dtype is precisions[0]:
            faster_passes(setting, part, denoiser, documents, "faster_passes")
        for name, (task, number, sampler) in works.items():
            part.attempt(
                f"{str(dtype).removeprefix('torch.')}/{name}",
                partial(_measured, setting, denoiser, documents(task, number), sampler),
                needs=6,
            )


def _documents(setting: Setting, config: RunConfig, task: str, number: int) -> list[Sequence]:
    """Prompts of random codes; spans of the lengths that are stated."""
    number = min(number, 2) if setting.is_tiny else number
    space = vocabulary(config)
    data = config.data
    assert isinstance(data, StatedData)
    stated = {source.name: source.num_frames(data.spaces) for source in data.sources}
    frames: dict[str, int] = {}
    for lengths in stated.values():
        frames |= {modality: n for modality, n in lengths.items() if modality != "text"}
    if task == "text":
        shapes = {"text": min(256, (config.row_length or 256) - 3)}
    else:
        target = "image" if task == "text_to_image" else "speech"
        shapes = {"text": min(_PROMPT, space.space("text").codebook_size), target: frames[target]}
    sequences = []
    for index in range(number):
        draw = rng.generator(0, "prompt", index)
        codes = {
            m: draw.integers(space.space(m).codebook_size, size=(n, space.space(m).num_codebooks))
            if m == "text" and task != "text"
            else np.zeros((n, space.space(m).num_codebooks), dtype=np.int64)
            for m, n in shapes.items()
        }
        sequences.append(build_sequence(space, task, codes))
    return sequences


def _measured(
    setting: Setting, denoiser: Denoiser, documents: list[Sequence], config: SamplerConfig
) -> dict[str, Any]:
    batch = make_batch(documents, range(len(documents))).to(setting.device)
    with torch.inference_mode():
        forward = timed(setting, lambda: denoiser(batch.tokens, batch), seconds=0.3)["median"]
    found, _ = measured(setting, DenoiserPredictor(denoiser), documents, config)
    share = forward * found["passes"] / found["seconds"]
    return found | {"forward_pass_seconds": forward, "share_of_forward_passes": share}
