"""The speech tokenizer: features, their autoencoder with a quantizer, and the vocoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trimask import modules
from trimask.config import from_dict, to_dict
from trimask.errors import UserError
from trimask.io import keep_modules, load_tensors, save_tensors
from trimask.tokenizers.speech.autoencoder import AutoencoderConfig, SpeechAutoencoder
from trimask.tokenizers.speech.features import SpeechFeatures, SpeechFeaturesConfig
from trimask.tokenizers.speech.vocoder import Vocoder, VocoderConfig

KIND = "speech_tokenizer"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechTokenizerConfig:
    """Configures the three parts of the tokenizer."""

    features: SpeechFeaturesConfig = SpeechFeaturesConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    vocoder: VocoderConfig = VocoderConfig()

    def __post_init__(self) -> None:
        samples = self.features.hop * self.autoencoder.frames_per_code
        if self.features.sample_rate % samples:
            raise UserError(
                f"hop={self.features.hop} x frames_per_code={self.autoencoder.frames_per_code} does not "
                f"divide sample_rate={self.features.sample_rate}: choose values that give whole code frames "
                "per second"
            )


@final
class SpeechTokenizer(nn.Module):
    """Mono waveforms in [-1, 1] <-> codes of shape (frames, codebooks), codebooks coarse to fine.

    A waveform has `ceil(samples * frame_rate / sample_rate)` frames. Decoding gives whole frames, so up to
    one frame of silence is added. Decoding is deterministic.
    """

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.features = SpeechFeatures(config.features)
        self.autoencoder = SpeechAutoencoder(config.autoencoder, config.features.num_mels)
        self.vocoder = Vocoder(config.vocoder, config.features)

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.config.features.sample_rate

    @property
    def frame_rate(self) -> int:
        """Code frames per second."""
        return self.sample_rate // self.samples_per_frame

    @property
    def samples_per_frame(self) -> int:
        """Samples per frame of codes."""
        return self.config.features.hop * self.config.autoencoder.frames_per_code

    @property
    def num_codebooks(self) -> int:
        """Codes per frame."""
        return self.autoencoder.quantizer.num_codebooks

    @property
    def codebook_size(self) -> int:
        """Codes are 0 … codebook_size - 1 in each codebook."""
        return self.autoencoder.quantizer.codebook_size

    def num_frames(self, num_samples: int) -> int:
        """Return the number of code frames of a waveform with `num_samples` samples."""
        return -(-num_samples // self.samples_per_frame)

    @torch.no_grad()
    def encode(self, waveform: Float[Tensor, "samples"]) -> Int[Tensor, "frames codebooks"]:
        """Encode a waveform at `sample_rate`. Raise UserError if it is empty or has NaN or infinity."""
        check_waveform(waveform)
        missing = -len(waveform) % self.samples_per_frame
        whole = nn.functional.pad(waveform.to(torch.float32), (0, missing))
        return self.autoencoder.quantizer.encode(self.autoencoder.latent(self.features(whole[None])))[0]

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "frames codebooks"]) -> Float[Tensor, "samples"]:
        """Decode to a waveform in [-1, 1]. Raise UserError for no frames, or a code out of range."""
        if codes.numel() == 0:
            raise UserError("there are 0 frames of codes: give at least one")
        features = self.autoencoder.features(self.autoencoder.quantizer.decode(codes)[None])
        return self.vocoder(features)[0].clamp(-1.0, 1.0)

    def save(self, path: str | Path, *, half: bool = False, **metadata: str) -> None:
        """Write weights and configuration, in float16 if `half`, and beside them in `modules` the user's code
        that they need.
        """
        tensors = {name: t.half() if half else t for name, t in self.state_dict().items()}
        config = to_dict(self.config)
        keep_modules(config, Path(path).parent)
        save_tensors(path, tensors, kind=KIND, config=config, **metadata)

    @classmethod
    def load(cls, path: str | Path) -> "SpeechTokenizer":
        """Load a tokenizer that `save` wrote, as float32 in evaluation mode.

        Raises:
            UserError, OSError: the file is missing, damaged, or something else.
        """
        artifact = load_tensors(path, kind=KIND)
        modules.load_all(artifact.config, Path(path).parent)
        tokenizer = cls(from_dict(SpeechTokenizerConfig, artifact.config))
        try:
            tokenizer.load_state_dict({name: t.float() for name, t in artifact.tensors.items()})
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise UserError(
                f"{path} does not fit its own configuration ({first}): write or fetch it again"
            ) from error
        return tokenizer.eval()


def check_waveform(waveform: Float[Tensor, "samples"]) -> None:
    """Raise UserError if a waveform is empty, or has NaN or infinity."""
    if waveform.numel() == 0:
        raise UserError("the waveform has 0 samples: give at least one")
    if not bool(waveform.isfinite().all()):
        place = int((~waveform.isfinite()).nonzero()[0])
        raise UserError(f"sample {place} of the waveform is {waveform[place].item()}: clean the audio first")
