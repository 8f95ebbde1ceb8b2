"""Whether the host waits for the GPU within steps whose slots are known before their prediction."""

from typing import Any

import numpy as np
import torch
from filling import waits_per_step
from setting import Setting

from trimask.model.denoiser import Denoiser, DenoiserConfig
from trimask.sampling.compiled_predictor import CompiledPredictor
from trimask.sampling.config import SamplerConfig
from trimask.sampling.filters import TopP
from trimask.sampling.order import CoarseFirst
from trimask.sampling.predictor import DenoiserPredictor, PartialPredictor
from trimask.sampling.recompute import Needed
from trimask.vocabulary.layout import Vocabulary
from trimask.vocabulary.sequence import build_sequence


def waiting_steps(
    setting: Setting, config: DenoiserConfig, vocabulary: Vocabulary, dtype: torch.dtype
) -> dict[str, Any]:
    """Pictures and speech at once, by several laws, with passes that are recorded and that are not."""
    denoiser = Denoiser(config, vocabulary)
    denoiser.initialize(0)
    denoiser = denoiser.to(setting.device, dtype)
    empty = {"text": 5, "image": 16, "speech": 9}
    documents = [
        build_sequence(
            vocabulary,
            task,
            {
                m: np.zeros((empty[m], vocabulary.space(m).num_codebooks), dtype=np.int64)
                for m in ("text", target)
            },
        )
        for task, target in (("text_to_image", "image"), ("text_to_speech", "speech"))
    ]
    laws = {
        "coarse first": SamplerConfig(num_steps=4, order=CoarseFirst()),
        "guided, top-p": SamplerConfig(num_steps=4, guidance_scale=2.0, filters=(TopP(value=0.8),)),
        "guided, needed": SamplerConfig(num_steps=4, guidance_scale=2.0, recompute=Needed()),
    }
    predictors: dict[str, PartialPredictor] = {
        "plain": DenoiserPredictor(denoiser),
        "recorded": CompiledPredictor(denoiser, compiles=False),
    }
    found = {
        f"{law}, {name}": waits_per_step(setting, predictor, documents, sampler)
        for law, sampler in laws.items()
        for name, predictor in predictors.items()
    }
    if not setting.on_gpu:
        return {"impossible": "nothing waits for a CPU"}
    return {"passed": all(each is not None and each["number"] == 0 for each in found.values()), **found}
