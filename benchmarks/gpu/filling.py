"""Documents filled by the sampler as it is: passes counted, and waits of the host within them."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from setting import Setting

from trimask.sampling.config import SamplerConfig
from trimask.sampling.counting import CountingPredictor
from trimask.sampling.predictor import PartialPredictor
from trimask.sampling.row import Row
from trimask.sampling.sampler import Unmasker
from trimask.vocabulary.sequence import Sequence


def measured(
    setting: Setting,
    predictor: PartialPredictor,
    documents: list[Sequence],
    config: SamplerConfig,
    *,
    rounds: int = 1,
) -> tuple[dict[str, Any], np.ndarray]:
    """What filling the documents takes, the median of some rounds after two steps to warm up; and the
    targets.
    """
    waits = waits_per_step(setting, predictor, documents, replace(config, num_steps=2))
    found: list[float] = []
    computed: list[int] = []  # positions of each pass, of which guided steps take two
    filled, num_steps, counting = np.zeros(0), 0, CountingPredictor(predictor, computed.append)
    for _ in range(rounds):
        computed.clear()
        setting.synchronize()
        began = time.perf_counter()
        filled, num_steps = fill(counting, documents, config)
        setting.synchronize()
        found.append(time.perf_counter() - began)
    seconds = float(np.median(found))
    tokens = sum(int(document.maskable.sum()) for document in documents)
    return {
        "sequences": len(documents),
        "tokens": tokens,
        "steps": num_steps,
        "passes": len(computed),
        "positions_per_pass": sum(computed) / len(computed),
        "guidance_scale": config.guidance_scale,
        "seconds": seconds,
        "seconds_per_pass": seconds / len(computed),
        "seconds_per_sequence": seconds / len(documents),
        "tokens_per_second": tokens / seconds,
        "waits_per_step": waits,
    }, filled


def fill(
    predictor: PartialPredictor, documents: list[Sequence], config: SamplerConfig, watch: Any = nullcontext
) -> tuple[np.ndarray, int]:
    """Fill the documents at once; return all targets, and the steps. `watch()` is entered for each step."""
    unmasker, num_steps = Unmasker(predictor), 0
    unmasker.admit(
        [
            Row(document, predictor.vocabulary, config, seed=0, key=key, place=key)
            for key, document in enumerate(documents)
        ]
    )
    found: dict[int, np.ndarray] = {}
    while unmasker.rows:
        with watch():
            unmasker.run_pass()
        num_steps += 1
        found |= {row.place: tokens for row, tokens in unmasker.release()}
    targets = [found[place][document.maskable] for place, document in enumerate(documents)]
    return np.concatenate(targets), num_steps


def waits_per_step(
    setting: Setting, predictor: PartialPredictor, documents: list[Sequence], config: SamplerConfig
) -> dict[str, Any] | None:
    """How often the host waits for the GPU within a step, and where most; warms up too."""
    fill(predictor, documents, config)
    if not setting.on_gpu:
        return None
    places: Counter[str] = Counter()

    @contextmanager
    def watch() -> Iterator[None]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
        for warning in caught:
            if "synchroniz" in str(warning.message):
                places[f"{'/'.join(warning.filename.split('/')[-2:])}:{warning.lineno}"] += 1

    _, num_steps = fill(predictor, documents, config, watch)
    return {"number": sum(places.values()) / num_steps, "places": dict(places.most_common(10))}
