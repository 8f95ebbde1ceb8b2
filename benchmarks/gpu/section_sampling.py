"""How fast the sampler, as it is, fills pictures, speech and text with a model of the pilot's size and random
weights.
"""

import time
import warnings
from collections import Counter
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from setting import Part, Setting, initialize_here, sized, timed, vocabulary
from torch import Tensor

from trimask import rng
from trimask.data.selection import StatedData
from trimask.model.denoiser import Denoiser
from trimask.recipes.reference import pilot_320m
from trimask.sampling.config import SamplerConfig
from trimask.sampling.count import Ancestral
from trimask.sampling.filters import Temperature
from trimask.sampling.grid import Cosine
from trimask.sampling.order import Confidence, Random
from trimask.sampling.predictor import DenoiserPredictor, Prediction
from trimask.sampling.sampler import sample
from trimask.training.run import RunConfig
from trimask.vocabulary.batch import Batch, make_batch
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import Sequence, build_sequence

_PROMPT = 64


def run(setting: Setting, part: Part) -> None:
    config = sized(setting, pilot_320m)
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
        for name, (task, number, sampler) in works.items():
            documents = _documents(config, task, 2 if setting.is_tiny else number)
            part.attempt(
                f"{str(dtype).removeprefix('torch.')}/{name}",
                lambda x=documents, s=sampler, d=denoiser: _measured(setting, d, x, s),
                needs=6,
            )


def _documents(config: RunConfig, task: str, number: int) -> list[Sequence]:
    """Prompts of random codes; spans of the lengths that are stated."""
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


@final
class _Counted:
    """The denoiser as a predictor that counts its passes: sequences skip steps that do nothing."""

    def __init__(self, denoiser: Denoiser):
        self.inner, self.num_passes = DenoiserPredictor(denoiser), 0

    @property
    def vocabulary(self) -> Vocabulary:
        return self.inner.vocabulary

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def __call__(self, z: Tensor, batch: Batch) -> Prediction:
        self.num_passes += 1
        return self.inner(z, batch)


def _measured(
    setting: Setting, denoiser: Denoiser, documents: list[Sequence], config: SamplerConfig
) -> dict[str, Any]:
    predictor = _Counted(denoiser)
    batch = make_batch(documents, range(len(documents))).to(setting.device)
    with torch.inference_mode():
        forward = timed(setting, lambda: denoiser(batch.tokens, batch), seconds=0.3)["median"]
    places = _waits(setting, predictor, documents, replace(config, num_steps=2))
    setting.synchronize()
    predictor.num_passes = 0
    began = time.perf_counter()
    sample(predictor, documents, config, seed=0)
    setting.synchronize()
    seconds = time.perf_counter() - began
    tokens = int(batch.maskable.sum())
    return {
        "sequences": batch.num_sequences,
        "tokens": tokens,
        "steps": config.num_steps,
        "passes": predictor.num_passes,
        "guidance_scale": config.guidance_scale,
        "seconds": seconds,
        "seconds_per_sequence": seconds / batch.num_sequences,
        "tokens_per_second": tokens / seconds,
        "forward_pass_seconds": forward,
        "share_of_forward_passes": forward * predictor.num_passes / seconds,
        "waits_per_step": places,
    }


def _waits(
    setting: Setting, predictor: _Counted, documents: list[Sequence], config: SamplerConfig
) -> dict[str, Any] | None:
    """How often the host waits for the GPU in a step, and where most; warms up too."""
    assert config.num_steps is not None
    if not setting.on_gpu:
        sample(predictor, documents, config, seed=1)
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            sample(predictor, documents, config, seed=1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = Counter(
        f"{'/'.join(w.filename.split('/')[-2:])}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
    )
    return {"number": sum(places.values()) / config.num_steps, "places": dict(places.most_common(10))}
