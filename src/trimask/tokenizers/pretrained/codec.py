"""The base class of public speech codecs: input checks, whole frames, and a prefix of the codebooks."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from trimask.errors import UserError
from trimask.tokenizers.pretrained.saved import Origin, save
from trimask.tokenizers.quantizer import check_codes
from trimask.tokenizers.speech.tokenizer import check_waveform


class PretrainedSpeechTokenizer(nn.Module, ABC):
    """Mono waveforms in [-1, 1] <-> the first `num_codebooks` codebooks of a frozen public codec.

    Results are on the device of the input.
    """

    def __init__(self, model: Any, *, num_codebooks: int | None = None, origin: Origin | None = None) -> None:
        super().__init__()
        channels = getattr(model.config, "audio_channels", 1)
        if channels != 1:
            raise UserError(
                f"this {model.config.model_type} has {channels} channels: give a mono one, such as EnCodec's "
                "24 kHz model"
            )
        self.model = model
        self.origin = origin
        self.eval()
        self._num_codebooks = self.most_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= self._num_codebooks <= self.most_codebooks:
            raise UserError(
                f"num_codebooks={num_codebooks}: this codec has {self.most_codebooks}, choose 1 to "
                f"{self.most_codebooks}"
            )

    @property
    @abstractmethod
    def family(self) -> str:
        """The library's name for this type of model."""

    @property
    @abstractmethod
    def most_codebooks(self) -> int:
        """Number of codebooks of the codec, used or not."""

    @property
    @abstractmethod
    def samples_per_frame(self) -> int:
        """Samples per frame of codes: the hop."""

    @abstractmethod
    def _encode(self, waveform: Float[Tensor, "1 1 samples"]) -> Int[Tensor, "1 codebooks frames"]:
        """Encode to at least `num_codebooks` codebooks and ceil(samples / hop) frames."""

    @abstractmethod
    def _decode(self, codes: Int[Tensor, "1 codebooks frames"]) -> Float[Tensor, "..."]:
        """Decode to about frames x hop samples."""

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
        """Return the number of code frames of a waveform with `num_samples` samples."""
        return -(-num_samples // self.samples_per_frame)

    def encode(
        self, waveform: Shaped[Tensor, "*channels samples"], *, sample_rate: int | None = None
    ) -> Int[Tensor, "frames codebooks"]:
        """Encode a waveform at `self.sample_rate`, with the same codes as the library.

        Args:
            sample_rate: the waveform's rate in Hz, to be checked; None skips the check.

        Raises:
            UserError: the waveform is empty, not mono, has NaN or infinity, or has another sample rate.
        """
        if sample_rate not in (None, self.sample_rate):
            raise UserError(
                f"the waveform has {sample_rate} samples per second, this codec takes {self.sample_rate}: "
                "resample it first"
            )
        if waveform.ndim != 1:
            raise UserError(
                f"the waveform has the shape {tuple(waveform.shape)}: this codec takes one channel, shape "
                "(samples,); average the channels first"
            )
        check_waveform(waveform)
        with torch.inference_mode():
            samples = waveform.to(self._device, torch.float32)[None, None]
            codes = self._encode(samples)[0, : self._num_codebooks].T
        frames = self.num_frames(len(waveform))
        assert len(codes) == frames, f"{self.family} gives {len(codes)} frames instead of {frames}"
        # Copied, as in `decode`: tensors made in inference mode cannot be used in training.
        return codes.to(waveform.device, torch.int64, copy=True)

    def decode(self, codes: Int[Tensor, "frames codebooks"]) -> Float[Tensor, "samples"]:
        """Decode to a waveform of frames x hop samples, clipped to [-1, 1].

        Raises:
            UserError: there are no frames, the number of codebooks differs, or a code is out of range.
        """
        if codes.numel() == 0:
            raise UserError("there are 0 frames of codes: give at least one")
        check_codes(codes, self._num_codebooks, self.codebook_size)
        due = len(codes) * self.samples_per_frame
        with torch.inference_mode():
            waveform = self._decode(codes.T[None].to(self._device)).flatten()[:due].clamp(-1, 1)
            # DAC's odd strides lose a few samples at the end (8 at 24 kHz).
            waveform = nn.functional.pad(waveform, (0, due - len(waveform)))
        return waveform.to(codes.device, copy=True)

    def save(self, folder: Path) -> None:
        """Save the model in its library's format, with our options in another file."""
        save(folder, self.model, origin=self.origin, num_codebooks=self._num_codebooks)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _with_zeros(self, waveform: Float[Tensor, "1 1 samples"]) -> Float[Tensor, "1 1 whole"]:
        return nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.samples_per_frame))
