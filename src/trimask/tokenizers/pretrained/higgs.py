"""Import Higgs Audio v2's class from transformers, even if torchaudio cannot be installed.

Its module needs torchaudio for one function only, `resample`. The package index has torchaudio only for GPU
builds of torch, so if it is missing, a substitute with our `resample` is used while the module is imported.
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
    """Return `HiggsAudioV2TokenizerModel`. Raise ImportError if transformers is missing or too old."""
    # Import the module's own dependencies first, so that they do not see the substitute.
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
    """Resample from `before` to `after` samples per second, as `torchaudio.functional.resample` does.

        y[j] = Σ_i x[i] h(i / before - j / after)

    h is a sinc with its cutoff at 0.99 of the lower Nyquist frequency, truncated after 6 zeros by a Hann
    window. The result has ceil(samples · after / before) samples.
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
