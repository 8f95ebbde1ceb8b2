"""Who samples: trimask and the twins of its rivals, each with the settings that its authors publish.

A contender's sampler likelihood (nats per token on real data), where its law has one, belongs here too, as
one more function of the work beside `sample`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import final

import torch
from torch import Tensor

from benchmarks.sampling import keys_values, ours
from benchmarks.sampling.autoregressive import Autoregressive
from benchmarks.sampling.fast_dllm import Cache, DenoiserParts, FastDLLM
from benchmarks.sampling.first_hitting import FirstHitting
from benchmarks.sampling.llada import LLaDA
from benchmarks.sampling.maskgit import MaskGIT
from benchmarks.sampling.mdlm import MDLM
from benchmarks.sampling.network import CodeNetwork, Count, Network, VocabularyNetwork
from benchmarks.sampling.work import RANDOM, Work
from trimask.sampling.backends import find_backend
from trimask.vocabulary.batch import Batch


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Attributes:
    settings: what it runs with, for the result.
    sample: fill the batch; count the passes. The number is the seed.
    refuse: why it cannot do this work, or None.
    """

    name: str
    settings: object
    sample: Callable[[Work, Count, int], Tensor]
    refuse: Callable[[Work], str | None]


def contenders(task: str) -> list[Contender]:
    """Return all, trimask first. `-same`: as many passes as trimask's settings have steps."""
    temperature = ours.temperature(task)
    num_steps = ours.settings(ours.OURS, task).num_steps or ours.ASSUMED_STEPS
    return [
        _ours(ours.OURS, task),
        _ours(ours.GUIDED, task),
        *(_by_backend(name, task, backend) for name, backend in ours.BY_BACKEND.items()),
        *(
            _by_backend(name, task, backend)
            for name, (preset, backend) in ours.BY_PRESET.items()
            if task in ours.load_presets().presets[preset]
        ),
        _over_vocabulary("llada", LLaDA(temperature=temperature)),
        _over_vocabulary("llada-same", LLaDA(num_steps=num_steps, temperature=temperature)),
        _over_vocabulary("mdlm", MDLM()),
        _over_vocabulary("mdlm-same", MDLM(num_steps=num_steps)),
        _over_vocabulary("first-hitting", FirstHitting()),
        *(_fast_dllm(cache, temperature) for cache in Cache),
        _over_codes("maskgit-12", MaskGIT(num_steps=12)),
        _over_codes("maskgit-64", MaskGIT(num_steps=64)),
        _autoregressive(temperature),
    ]


def _ours(name: str, task: str) -> Contender:
    config = ours.settings(name, task)
    is_double = name == ours.GUIDED and config.guidance_scale == 1
    return Contender(
        name=name,
        settings=config,
        sample=lambda work, count, seed: ours.fill(config, work, count, seed),
        refuse=lambda work: "trimask's settings of this task have no guidance" if is_double else None,
    )


def _by_backend(name: str, task: str, backend: str) -> Contender:
    config = ours.settings(name, task)

    def refuse(work: Work) -> str | None:
        try:
            find_backend(backend)
        except ImportError as error:
            return str(error)
        return None

    return Contender(
        name=name,
        settings=config,
        sample=lambda work, count, seed: ours.fill(config, work, count, seed, backend=backend),
        refuse=refuse,
    )


def _over_vocabulary(name: str, sampler: Callable[[Network, torch.Generator], Tensor]) -> Contender:
    def sample(work: Work, count: Count, seed: int) -> Tensor:
        network = VocabularyNetwork(work.model.denoiser, work.batch, count)
        return sampler(network, torch.Generator().manual_seed(seed))

    return Contender(name=name, settings=sampler, sample=sample, refuse=lambda work: None)


def _over_codes(name: str, sampler: MaskGIT) -> Contender:
    def sample(work: Work, count: Count, seed: int) -> Tensor:
        network = CodeNetwork(work.model.denoiser, work.batch, count)
        return network.tokens(sampler(network, torch.Generator().manual_seed(seed)))

    def refuse(work: Work) -> str | None:
        if find_spec("diffusers") is None:
            return "diffusers is not installed (pip install 'trimask[pretrained]')"
        ranges = work.model.denoiser.vocabulary.ranges
        found = work.batch.range_index[work.batch.maskable].unique().tolist()
        sizes = {ranges[index].size for index in found}
        return None if len(sizes) == 1 else f"it has one size of codebook, and the targets have {sizes}"

    return Contender(name=name, settings=sampler, sample=sample, refuse=refuse)


def _fast_dllm(cache: Cache, temperature: float) -> Contender:
    sampler = FastDLLM(cache=cache, temperature=temperature)

    def sample(work: Work, count: Count, seed: int) -> Tensor:
        network = DenoiserParts(work.model.denoiser, work.batch, count)
        return sampler(network, torch.Generator().manual_seed(seed))

    def refuse(work: Work) -> str | None:
        if work.model.name == RANDOM:
            return "its passes depend on how sure the model is: random weights say nothing"
        return keys_values.refuse(work.batch) or _splits(work.batch, sampler.block_length)

    name = "fast-dllm" if cache is Cache.NONE else f"fast-dllm-{cache.value}"
    return Contender(name=name, settings=sampler, sample=sample, refuse=refuse)


def _autoregressive(temperature: float) -> Contender:
    sampler = Autoregressive(temperature=temperature)

    def sample(work: Work, count: Count, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sampler(work.model.denoiser, work.batch, count, generator)

    return Contender(
        name="autoregressive",
        settings=sampler,
        sample=sample,
        refuse=lambda work: keys_values.refuse(work.batch),
    )


def _splits(batch: Batch, block_length: int) -> str | None:
    """Return why blocks of so many targets cannot be; None if they can."""
    shared = batch.position[batch.maskable].bincount()
    most = int(shared.max())
    return f"blocks of {block_length} would split positions of {most} codes" if block_length % most else None
