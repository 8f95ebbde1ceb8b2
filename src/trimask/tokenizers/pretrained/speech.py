"""Public speech tokenizers of transformers: Higgs Audio v2, DAC, EnCodec, Mimi.

Their codebooks are residual, coarse to fine, so that the first few are a tokenizer too. A waveform of n
samples has ceil(n / hop) frames: EnCodec and Mimi fill the last one themselves, layer by layer; for DAC and
Higgs Audio zeros are appended, as their feature extractor does. Decoding gives frames x hop samples.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from trimask.tokenizers.pretrained.higgs import higgs_class
from trimask.tokenizers.pretrained.image import check_codes
from trimask.tokenizers.pretrained.saved import Origin, SavedModel, find, from_extra, save
from trimask.tokenizers.speech.tokenizer import check_waveform


class PretrainedSpeechTokenizer(nn.Module, ABC):
    """Mono waveforms in [-1, 1] <-> the first `num_codebooks` codebooks of a frozen public codec.

    Codes and waveforms come back on the device of what was given.
    """

    def __init__(self, model: Any, *, num_codebooks: int | None = None, origin: Origin | None = None) -> None:
        super().__init__()
        self.model = model
        self.origin = origin
        self.eval()
        self._num_codebooks = self.most_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= self._num_codebooks <= self.most_codebooks:
            raise ValueError(
                f"num_codebooks={num_codebooks}: this codec has {self.most_codebooks}, choose 1 to "
                f"{self.most_codebooks}"
            )

    @property
    @abstractmethod
    def family(self) -> str:
        """What the library calls such a model."""

    @property
    @abstractmethod
    def most_codebooks(self) -> int:
        """Codebooks that the codec has, used or not."""

    @property
    @abstractmethod
    def samples_per_frame(self) -> int:
        """Samples that one frame of codes stands for: the hop."""

    @abstractmethod
    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        """At least `num_codebooks` codebooks, ceil(samples / hop) frames."""

    @abstractmethod
    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        """About frames x hop samples."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.model.config.sampling_rate

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""
        return self.sample_rate / self.samples_per_frame

    @property
    def num_codebooks(self) -> int:
        """Codes per frame."""
        return self._num_codebooks

    @property
    def codebook_size(self) -> int:
        """Values that a code can take."""
        return self.model.config.codebook_size

    def num_frames(self, num_samples: int) -> int:
        """Code frames of a waveform of `num_samples`."""
        return -(-num_samples // self.samples_per_frame)

    def encode(
        self, waveform: Shaped[Tensor, "*channels samples"], *, sample_rate: int | None = None
    ) -> Int[Tensor, "frames codebooks"]:
        """The library's own codes of a waveform at `self.sample_rate`.

        ValueError if it is empty, not mono, or holds NaN or infinity; or if `sample_rate` is given and
        another.
        """
        if sample_rate not in (None, self.sample_rate):
            raise ValueError(
                f"the waveform has {sample_rate} samples a second, this codec takes {self.sample_rate}: "
                "resample it first"
            )
        if waveform.ndim != 1:
            raise ValueError(
                f"the waveform has the shape {tuple(waveform.shape)}: this codec takes one channel, shape "
                "(samples,); average the channels first"
            )
        check_waveform(waveform)
        with torch.inference_mode():
            samples = waveform.to(self._device, torch.float32)[None, None]
            codes = self._encode(samples)[0, : self._num_codebooks].T
        frames = self.num_frames(len(waveform))
        assert len(codes) == frames, f"{self.family} gives {len(codes)} frames, {frames} are due"
        # Copied, as in `decode`: what is made in inference mode cannot take part in training.
        return codes.to(waveform.device, torch.int64, copy=True)

    def decode(self, codes: Int[Tensor, "frames codebooks"]) -> Float[Tensor, "samples"]:
        """The waveform that codes stand for, clipped to [-1, 1]: frames x hop samples. ValueError if there
        are no frames, another number of codebooks, or codes out of range.
        """
        if codes.numel() == 0:
            raise ValueError("there are 0 frames of codes: pass at least one")
        if codes.shape[1] != self._num_codebooks:
            raise ValueError(f"codes of {codes.shape[1]} codebooks; this tokenizer has {self._num_codebooks}")
        check_codes(codes, self.codebook_size)
        due = len(codes) * self.samples_per_frame
        with torch.inference_mode():
            waveform = self._decode(codes.T[None].to(self._device)).flatten()[:due].clamp(-1, 1)
            # The odd strides of a DAC lose a few samples at the end (8 at 24 kHz).
            waveform = nn.functional.pad(waveform, (0, due - len(waveform)))
        return waveform.to(codes.device, copy=True)

    def save(self, folder: Path) -> None:
        """Write the model as its library does, and our options beside it."""
        save(folder, self.model, origin=self.origin, num_codebooks=self._num_codebooks)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _with_zeros(self, waveform: Float[Tensor, "1 1 samples"]) -> Float[Tensor, "1 1 whole"]:
        return nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.samples_per_frame))

    def _bandwidth(self) -> float:
        """The least of the model's bandwidths (kbit/s) that takes all codebooks in use."""
        for bandwidth in sorted(self.model.config.target_bandwidths):
            if self.model.quantizer.get_num_quantizers_for_bandwidth(bandwidth) >= self._num_codebooks:
                return bandwidth
        raise AssertionError("the largest bandwidth takes all codebooks")


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
        return self.model.encode(self._with_zeros(waveform), n_quantizers=self._num_codebooks).audio_codes

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(audio_codes=codes).audio_values


@final
class EncodecTokenizer(PretrainedSpeechTokenizer):
    """EnCodec (Défossez et al. 2022, arXiv 2210.13438), mono: the 24 kHz model."""

    def __init__(self, model: Any, **options: Any) -> None:
        config = model.config
        if config.audio_channels != 1:
            raise ValueError(
                f"this EnCodec has {config.audio_channels} channels: give a mono one (the 24 kHz model)"
            )
        if config.normalize or config.chunk_length_s is not None:
            raise ValueError(
                f"this EnCodec stores loudness beside the codes (normalize={config.normalize}, "
                f"chunk_length_s={config.chunk_length_s}): give one without (the 24 kHz model)"
            )
        super().__init__(model, **options)

    @property
    def family(self) -> str:
        return "encodec"

    @property
    def most_codebooks(self) -> int:
        return self.model.config.num_quantizers

    @property
    def samples_per_frame(self) -> int:
        return self.model.config.hop_length

    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        return self.model.encode(waveform, bandwidth=self._bandwidth()).audio_codes[0]

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
        num_quantizers = max(self._num_codebooks, self.model.config.num_semantic_quantizers)
        return self.model.encode(waveform, num_quantizers=num_quantizers).audio_codes

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(codes).audio_values


@final
class HiggsTokenizer(PretrainedSpeechTokenizer):
    """Higgs Audio v2's tokenizer: acoustics and HuBERT's features in one residual quantizer."""

    @property
    def family(self) -> str:
        return "higgs_audio_v2_tokenizer"

    @property
    def sample_rate(self) -> int:
        return self.model.config.sample_rate

    @property
    def most_codebooks(self) -> int:
        return self.model.config.num_quantizers

    @property
    def samples_per_frame(self) -> int:
        return self.model.config.hop_length

    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        return self.model.encode(self._with_zeros(waveform), bandwidth=self._bandwidth()).audio_codes

    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        return self.model.decode(codes).audio_values


def load_speech_tokenizer(
    name_or_folder: str | Path,
    *,
    num_codebooks: int | None = None,
    revision: str | None = None,
    device: torch.device | str = "cpu",
) -> PretrainedSpeechTokenizer:
    """A public speech codec from a folder or the hub (`owner/name`, `owner/name/subfolder`).

    Args:
        num_codebooks: how many to use, coarse ones first; else what the folder's options say, or all.

    Raises:
        ValueError: a family that we do not know, a codec of several channels, more codebooks than there are,
            missing or damaged files.
        ImportError: its library is not installed, or too old.
        OSError: the hub does not give it.
    """
    saved = find(name_or_folder, revision=revision)
    number = saved.options.get("num_codebooks") if num_codebooks is None else num_codebooks
    return _load(saved, number).to(device)


def _load(saved: SavedModel, num_codebooks: int | None) -> PretrainedSpeechTokenizer:
    options: dict[str, Any] = {"num_codebooks": num_codebooks, "origin": saved.origin}
    with from_extra("transformers"):
        if saved.family == "dac":
            from transformers import DacModel

            return DACTokenizer(saved.load(DacModel), **options)
        if saved.family == "encodec":
            from transformers import EncodecModel

            return EncodecTokenizer(saved.load(EncodecModel), **options)
        if saved.family == "mimi":
            from transformers import MimiModel

            return MimiTokenizer(saved.load(MimiModel), **options)
        if saved.family == "higgs_audio_v2_tokenizer":
            return HiggsTokenizer(saved.load(higgs_class()), **options)
    raise ValueError(
        f"{saved.folder / 'config.json'} is {saved.family!r}, no speech tokenizer that we know: give a dac, "
        "encodec, mimi or higgs_audio_v2_tokenizer (transformers)"
    )
