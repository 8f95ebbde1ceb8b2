"""Higgs Audio v2's class of transformers, also where torchaudio cannot be installed.

Its module imports torchaudio for one function, `resample`. The package index has torchaudio for GPU builds of
torch alone, so where it is absent that function stands in for it while the module is imported.
"""

import importlib.machinery
import importlib.util
import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def higgs_class() -> Any:
    """`HiggsAudioV2TokenizerModel`. ImportError where transformers is absent or too old."""
    # What the module imports comes first: nothing else shall see the stand-in.
    from transformers import AutoModel, DacModel, HubertModel  # noqa: F401

    if "torchaudio" in sys.modules or importlib.util.find_spec("torchaudio") is not None:
        return _import()
    stand_in = ModuleType("torchaudio")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    vars(stand_in)["functional"] = SimpleNamespace(resample=resample)
    sys.modules["torchaudio"] = stand_in
    try:
        return _import()
    finally:
        del sys.modules["torchaudio"]


def resample(waveform: Float[Tensor, "*batch samples"], before: int, after: int) -> Float[Tensor, "*batch _"]:
    """`waveform` from `before` to `after` samples a second, as `torchaudio.functional.resample` has it:

        y[j] = Σ_i x[i] h(i / before - j / after),    h a sinc cut at 0.99 of the lower rate's half and after
        6 zeros, under a Hann window

    Length: ceil(samples · after / before).
    """
    divisor = math.gcd(before, after)
    before, after = before // divisor, after // divisor
    if before == after:
        return waveform
    zeros, cutoff = 6, 0.99 * min(before, after)
    width = math.ceil(zeros * before / cutoff)
    samples = torch.arange(-width, width + before, dtype=torch.float64, device=waveform.device) / before
    outputs = torch.arange(after, dtype=torch.float64, device=waveform.device)[:, None] / after
    time = ((samples - outputs) * cutoff).clamp(-zeros, zeros)
    kernels = torch.sinc(time) * torch.cos(time * math.pi / zeros / 2) ** 2 * cutoff / before
    flat = waveform.reshape(-1, 1, waveform.shape[-1])
    padded = torch.nn.functional.pad(flat, (width, width + before))
    mixed = torch.nn.functional.conv1d(padded, kernels[:, None].to(waveform.dtype), stride=before)
    length = -(-waveform.shape[-1] * after // before)
    return mixed.transpose(1, 2).flatten(1)[:, :length].reshape(*waveform.shape[:-1], length)


def _import() -> Any:
    from transformers.models.higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer import (
        HiggsAudioV2TokenizerModel,
    )

    return HiggsAudioV2TokenizerModel
