"""Fixed orders with planned counts, where nothing is read to choose slots: what recompute policies, CUDA
graphs and compiled blocks take, beside plain passes over everything.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from filling import fill, measured
from setting import Part, Setting

from trimask.model.denoiser import Denoiser
from trimask.sampling.compiled_predictor import CompiledPredictor
from trimask.sampling.config import SamplerConfig
from trimask.sampling.order import CoarseFirst, Random
from trimask.sampling.predictor import DenoiserPredictor, PartialPredictor
from trimask.sampling.recompute import ConditionFrozen, Everything, Needed, Recompute, RevealedFrozen
from trimask.vocabulary.sequence import Sequence

Documents = Callable[[str, int], list[Sequence]]
"""Documents of a task to fill, so many."""


def faster_passes(setting: Setting, part: Part, denoiser: Denoiser, documents: Documents, name: str) -> None:
    """Note each law and way below `name`. `times_plain`: its seconds, over those of plain passes over
    everything; `share_of_plain_tokens`: of targets, with the same code as there.
    """
    steps = 4 if setting.is_tiny else 16
    laws = {
        "speech_coarse_8": (documents("text_to_speech", 8), SamplerConfig(num_steps=8, order=CoarseFirst())),
        f"image_random_{steps}": (
            documents("text_to_image", 8),
            SamplerConfig(num_steps=steps, order=Random()),
        ),
        f"image_random_{steps}_alone": (
            documents("text_to_image", 1),
            SamplerConfig(num_steps=steps, order=Random()),
        ),
    }
    makers: dict[str, Callable[[], PartialPredictor]] = {
        "plain": cache(lambda: DenoiserPredictor(denoiser)),
        "graphs": cache(lambda: CompiledPredictor(denoiser, compiles=False)),
        "compiled": cache(lambda: CompiledPredictor(denoiser)),
    }
    ways: list[tuple[str, Recompute]] = [
        ("plain", Everything()),
        *(("plain", policy()) for policy in (ConditionFrozen, RevealedFrozen, Needed)),
        ("plain", Needed(renew_every=4)),
        ("graphs", Everything()),
        ("compiled", Everything()),
        ("compiled", Needed()),
    ]
    plain: dict[str, tuple[float, np.ndarray]] = {}

    def measure(maker: str, policy: Recompute, law: str) -> dict[str, Any]:
        filled, config = laws[law]
        predictor, config = makers[maker](), replace(config, recompute=policy)
        fill(predictor, filled, config)  # every shape once: some are compiled for
        found, tokens = measured(setting, predictor, filled, config, rounds=1 if setting.is_tiny else 3)
        if (maker, policy) == ways[0]:
            plain[law] = found["seconds"], tokens
        if law in plain:
            seconds, right = plain[law]
            found["times_plain"] = found["seconds"] / seconds
            found["share_of_plain_tokens"] = float(np.mean(tokens == right))
        return found

    for maker, policy in ways:  # compiled ones last: that takes longest
        for law in laws:
            renewed = "" if policy.renew_every in (None, 1) else f"_{policy.renew_every}"
            part.attempt(
                f"{name}/{law}/{maker}/{type(policy).__name__}{renewed}",
                partial(measure, maker, policy, law),
                needs=30 if maker == "compiled" and not setting.is_tiny else 4,
            )
