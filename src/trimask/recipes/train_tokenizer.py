"""A tokenizer recipe becomes a run: trained, measured, and a page to look at and listen to."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trimask.recipes.image_tokenizer import train_image_tokenizer
from trimask.recipes.speech_tokenizer import train_speech_tokenizer
from trimask.recipes.tokenizer_report import Measurement, measure
from trimask.tokenizers.image import ImageTokenizer
from trimask.tokenizers.speech import SpeechTokenizer
from trimask.training.image_tokenizer import ImageTokenizerRun
from trimask.training.loop import TrainResult
from trimask.training.speech_tokenizer import SpeechTokenizerRun
from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec

TokenizerRun = ImageTokenizerRun | SpeechTokenizerRun


def train_tokenizer(
    config: TokenizerRun,
    out: Path,
    *,
    recipe: str,
    resume: bool = False,
    deadline: float | None = None,
    report: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[int, Mapping[str, Any]], None] | None = None,
) -> TrainResult:
    """Run `config` in the directory `out`: the decoded data, checkpoints, metrics, and at the end the weights
    (`weights_file`) and the report of their round trips.
    """
    kind = "image" if isinstance(config, ImageTokenizerRun) else "speech"
    common: dict[str, Any] = {
        "recipe": recipe,
        "resume": resume,
        "deadline": deadline,
        "report": report,
        "on_progress": on_progress,
    }
    if isinstance(config, ImageTokenizerRun):
        result = train_image_tokenizer(config, out, **common)
        codec: Any = ImageTokenizer.load(weights_file(config, out))
    else:
        result = train_speech_tokenizer(config, out, **common)
        codec = SpeechTokenizer.load(weights_file(config, out))
    if result.stopped != "interrupted":  # who stops a run does not want to wait for figures
        measure(config.data, out, **{kind: codec}, measurement=Measurement(), run=out, report=report)
    return result


def weights_file(config: TokenizerRun, out: Path) -> Path:
    """The weights that a run leaves: float16, with their configuration."""
    return out / ("image.safetensors" if isinstance(config, ImageTokenizerRun) else "speech.safetensors")


def untrained(config: TokenizerRun) -> ImageTokenizer | SpeechTokenizer:
    """The tokenizer of a run, with no weights of meaning."""
    if isinstance(config, ImageTokenizerRun):
        return ImageTokenizer(config.tokenizer)
    return SpeechTokenizer(config.tokenizer)


def rates(codec: ImageCodec | SpeechCodec) -> dict[str, Any]:
    """Geometry of a tokenizer: codes and bits per image, or per second."""
    books = {"num_codebooks": codec.num_codebooks, "codebook_size": codec.codebook_size}
    bits = math.log2(codec.codebook_size)
    if isinstance(codec, ImageCodec):
        rows, columns = codec.grid
        codes = rows * columns * codec.num_codebooks
        return {
            "image_size": codec.image_size,
            "grid": [rows, columns],
            **books,
            "codes_per_image": codes,
            "bits_per_image": round(codes * bits, 1),
        }
    rate = codec.frame_rate * codec.num_codebooks
    return {
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.frame_rate,
        **books,
        "codes_per_second": rate,
        "bits_per_second": round(rate * bits, 1),
    }
