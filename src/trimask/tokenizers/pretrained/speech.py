"""Public speech tokenizers of transformers: Higgs Audio v2, DAC, EnCodec, Mimi.

Their codebooks are residual, coarse to fine, so the first few also form a tokenizer. A waveform of n samples
has ceil(n / hop) frames: EnCodec and Mimi pad the last one themselves, layer by layer; for DAC and Higgs
Audio zeros are appended, as by their feature extractors. Decoding gives frames x hop samples.
"""

from abc import ABC
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimask.errors import UserError
from trimask.tokenizers.pretrained.codec import PretrainedSpeechTokenizer
from trimask.tokenizers.pretrained.higgs import higgs_class
from trimask.tokenizers.pretrained.saved import SavedModel, find, from_extra


class _ByBandwidth(PretrainedSpeechTokenizer, ABC):
    """A codec that takes a bandwidth (kbit/s) from its list instead of a number of codebooks."""

    @property
    def most_codebooks(self) -> int:
        return self._num_within(max(self.model.config.target_bandwidths))

    @property
    def _bandwidth(self) -> float | int:
        """The lowest bandwidth that includes all codebooks in use."""
        bandwidths = sorted(self.model.config.target_bandwidths)
        return next(each for each in bandwidths if self._num_within(each) >= self.num_codebooks)

    def _num_within(self, bandwidth: float | int) -> int:
        number = self.model.quantizer.get_num_quantizers_for_bandwidth(bandwidth)
        return min(number, self.model.config.num_quantizers)


@final
class DACTokenizer(PretrainedSpeechTokenizer):
    """Descript Audio Codec (Kumar et al. 2023, arXiv 2306.06546)."""

    @property
    def family(self) -> str:
        return "dac"

    @property
    def most_codebooks(self) -> int:
        return self.model.config.n_codebooks

    @property
    def samples_per_frame(self) -> int:
        return self.model.config.hop_length

    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        return self.model.encode(self._with_zeros(waveform), n_quantizers=self.num_codebooks).audio_codes

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(audio_codes=codes).audio_values


@final
class EncodecTokenizer(_ByBandwidth):
    """EnCodec (Défossez et al. 2022, arXiv 2210.13438), mono: the 24 kHz model."""

    def __init__(self, model: Any, **options: Any) -> None:
        config = model.config
        if config.normalize or config.chunk_length_s is not None:
            raise UserError(
                f"this EnCodec stores loudness in addition to codes (normalize={config.normalize}, "
                f"chunk_length_s={config.chunk_length_s}): use one that does not, such as the 24 kHz model"
            )
        super().__init__(model, **options)

    @property
    def family(self) -> str:
        return "encodec"

    @property
    def samples_per_frame(self) -> int:
        return self.model.config.hop_length

    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        return self.model.encode(waveform, bandwidth=self._bandwidth).audio_codes[0]

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(codes[None], [None]).audio_values


@final
class MimiTokenizer(PretrainedSpeechTokenizer):
    """Mimi (Défossez et al. 2024, arXiv 2410.00037): its first codebooks are semantic."""

    @property
    def family(self) -> str:
        return "mimi"

    @property
    def most_codebooks(self) -> int:
        return self.model.config.num_quantizers

    @property
    def samples_per_frame(self) -> int:
        return round(self.model.config.sampling_rate / self.model.config.frame_rate)

    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        num_quantizers = max(self.num_codebooks, self.model.config.num_semantic_quantizers)
        return self.model.encode(waveform, num_quantizers=num_quantizers).audio_codes

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(codes).audio_values


@final
class HiggsTokenizer(_ByBandwidth):
    """Higgs Audio v2's tokenizer: acoustic and HuBERT features in one residual quantizer."""

    @property
    def family(self) -> str:
        return "higgs_audio_v2_tokenizer"

    @property
    def sample_rate(self) -> int:
        return self.model.config.sample_rate

    @property
    def samples_per_frame(self) -> int:
        return self.model.config.hop_length

    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        return self.model.encode(self._with_zeros(waveform), bandwidth=self._bandwidth).audio_codes

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(codes).audio_values


def load_speech_tokenizer(
    name_or_folder: str | Path,
    *,
    num_codebooks: int | None = None,
    revision: str | None = None,
    device: torch.device | str = "cpu",
) -> PretrainedSpeechTokenizer:
    """Load a public speech codec from a folder or the hub (`owner/name`, `owner/name/subfolder`).

    Args:
        num_codebooks: number of codebooks to use, coarse ones first; by default as saved, or all.
        revision: branch, tag or commit on the hub.

    Raises:
        UserError: the type of model is not supported, it is not mono, it has fewer codebooks, or files are
            missing or damaged.
        ImportError: its library is not installed or too old.
        OSError: it cannot be downloaded from the hub.
    """
    saved = find(name_or_folder, revision=revision)
    number = saved.options.get("num_codebooks") if num_codebooks is None else num_codebooks
    return _load(saved, number).to(device)


def _load(saved: SavedModel, num_codebooks: int | None) -> PretrainedSpeechTokenizer:
    with from_extra("transformers"):
        model_class, kind = _classes(saved)
    return kind(saved.load(model_class), num_codebooks=num_codebooks, origin=saved.origin)


def _classes(saved: SavedModel) -> tuple[Any, type[PretrainedSpeechTokenizer]]:
    """Return the library's class and ours. Raise ImportError if the library is missing or too old."""
    if saved.family == "dac":
        from transformers import DacModel

        return DacModel, DACTokenizer
    if saved.family == "encodec":
        from transformers import EncodecModel

        return EncodecModel, EncodecTokenizer
    if saved.family == "mimi":
        from transformers import MimiModel

        return MimiModel, MimiTokenizer
    if saved.family == "higgs_audio_v2_tokenizer":
        return higgs_class(), HiggsTokenizer
    raise UserError(
        f"{saved.folder / 'config.json'} is {saved.family!r}, not a supported speech tokenizer: give a dac, "
        "encodec, mimi or higgs_audio_v2_tokenizer (transformers)"
    )
