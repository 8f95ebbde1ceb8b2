"""`trimask tokenizers`: show tokenizers, measure what they lose, and assemble a folder to train over."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import tyro

from trimask.cli.arguments import Verb
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError, convert_file_errors
from trimask.cli.program import program
from trimask.cli.recipe import load_tokenizers
from trimask.errors import UserError

if TYPE_CHECKING:  # these import torch, which takes seconds
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.vocabulary.tokenizer import ImageCodec, SpeechCodec


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class ShowTokenizers(Verb):
    """Show the tokenizers of a folder: codes per image, codes and bits per second, codebooks, hashes.

    With --out, write a folder in which some are replaced: `trimask tokenizers --image
    kandinsky-community/kandinsky-2-2-decoder/movq --image-size 256 --out tokenizers/movq`. With --measure,
    encode and decode pictures and recordings, and report what is lost.
    """

    folder: Annotated[tyro.conf.Positional[Path | None], _arg("DIR")] = None
    """a tokenizer folder, such as RUN/tokenizers (default: the shipped one)"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """write a new folder: the tokenizers of --text, --image and --speech, the others from the folder above"""
    text: Annotated[Path | None, _arg("FILE")] = None
    """text.json of another folder, or the tokenizer.json of a byte-level BPE"""
    image: Annotated[str | None, _arg("NAME")] = None
    """a saved model's folder, or owner/name[/subfolder] on the hub; or an image.safetensors of trimask, the
    run that trained it, or `fine`, which is shipped too"""
    image_size: Annotated[int | None, _arg("PIXELS")] = None
    """pixels along each side of an image, for a public image tokenizer"""
    speech: Annotated[str | None, _arg("NAME")] = None
    """as --image"""
    num_codebooks: Annotated[int | None, _arg("N")] = None
    """use only the first (coarsest) codebooks of a public speech tokenizer"""
    measure: Annotated[Path | None, _arg("DIR")] = None
    """write report.json and report.html there: round trips of --data, or else of the embedded data"""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _arg("SOURCE")] = ()
    """raw pictures or recordings to measure on, as `prepare` reads them; may be given several times"""
    speaker_column: Annotated[str | None, _arg("NAME")] = None
    """column of --data with the speaker of each recording: word errors are also reported per speaker"""
    judges: Annotated[tuple[str, ...], _arg("DIR|ROLE=NAME")] = ()
    """models that judge the recordings (recognizer, speaker, quality), as for `trimask evaluate`"""
    num_clips: Annotated[int, _arg("N")] = 200
    """maximum number of recordings to measure on"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        self._check()
        folder = self.folder
        if self.out is not None:
            check_writable(self.out.parent)
            self._assemble(self.out)
            chosen = shlex.quote(str(self.out))
            say(
                f"wrote {self.out}: prepare your data with it ({program()} prepare SOURCE --tokenizers "
                f"{chosen} --out DATA), or train on the embedded data ({program()} train quickstart_mini "
                f"--tokenizers {chosen} --out RUN)"
            )
            folder = self.out
        if self.measure is not None:
            return self._measure(self.measure, folder)
        described = _describe(folder)
        if self.json:
            print_json(described)
            return 0
        for name in ("text", "image", "speech"):
            facts = [f"{key} {_format_value(value)}" for key, value in described[name].items()]
            print(f"{name:<7} " + ", ".join(facts))
        for name, digest in described["hashes"].items():
            print(f"sha256  {digest}  {name}")
        return 0

    def _check(self) -> None:
        """Check the arguments as far as possible without loading anything."""
        if self.folder is not None and not self.folder.is_dir():
            raise UsageError(
                f"{self.folder} is not a folder: give a tokenizer folder, such as RUN/tokenizers"
            )
        if self.out is not None and self.out.exists() and (self.out.is_file() or any(self.out.iterdir())):
            raise UsageError(f"--out {self.out} exists and is not an empty folder: choose another name")
        given = {"--text": self.text, "--image": self.image, "--speech": self.speech}
        chosen = [name for name, value in given.items() if value is not None]
        if self.out is None and self.measure is None and chosen:
            raise UsageError(
                f"{chosen[0]} makes a new tokenizer folder: say where to write it with --out DIR, or where "
                "to report what it loses with --measure DIR"
            )
        for name, value in {"--data": self.data, "--judges": self.judges}.items():
            if value and self.measure is None:
                raise UsageError(f"{name} is for measuring: say where to report with --measure DIR")
        if self.speaker_column is not None and not self.data:
            raise UsageError("--speaker-column is a column of --data: give the recordings with --data SOURCE")
        if self.num_clips < 1:
            raise UsageError(f"--num-clips is {self.num_clips}: give at least 1")
        if self.out is not None and not chosen:
            raise UsageError("--out writes a new folder: give a tokenizer with --text, --image or --speech")
        if self.image_size is not None and self.image is None:
            raise UsageError("--image-size is for --image: leave it out, or name an image tokenizer")
        if self.num_codebooks is not None and self.speech is None:
            raise UsageError("--num-codebooks is for --speech: leave it out, or name a speech tokenizer")

    def _assemble(self, out: Path) -> None:
        from trimask.tokenizers.bundle import SHIPPED, assemble, parts

        chosen: dict[str, Any] = dict(parts(SHIPPED if self.folder is None else self.folder))
        if self.text is not None:
            chosen["text"] = self.text
        if self.image is not None:
            chosen["image"] = self._image(self.image)
        if self.speech is not None:
            chosen["speech"] = self._speech(self.speech)
        with convert_file_errors():
            assemble(out, **chosen)

    def _image(self, name: str) -> "ImageCodec | Path":
        from trimask.tokenizers.pretrained import load_image_tokenizer

        ours = _find_own_weights(name, "image")
        if ours is None:
            return load_image_tokenizer(name, image_size=self.image_size)
        if self.image_size is not None:
            raise UsageError(f"--image-size {self.image_size}: the size of {name} is fixed, leave it out")
        return ours

    def _speech(self, name: str) -> "SpeechCodec | Path":
        from trimask.tokenizers.pretrained import load_speech_tokenizer

        ours = _find_own_weights(name, "speech")
        if ours is None:
            return load_speech_tokenizer(name, num_codebooks=self.num_codebooks)
        if self.num_codebooks is not None:
            raise UsageError(f"--num-codebooks {self.num_codebooks}: those of {name} are fixed, leave it out")
        return ours

    def _measure(self, out: Path, folder: Path | None) -> int:
        """Measure round trips of the tokenizers of --image and --speech, or else of both in `folder`."""
        from trimask.evaluation.judges.panel import Panel
        from trimask.sources.options import PrepareOptions
        from trimask.tokenizer_training.data import EmbeddedSignals
        from trimask.tokenizer_training.decoded import raw_signals
        from trimask.tokenizer_training.report import REPORT, Measurement, measure
        from trimask.tokenizers.image import ImageTokenizer
        from trimask.tokenizers.speech import SpeechTokenizer

        check_writable(out)
        try:
            judges = Panel.parse(self.judges)
        except UserError as error:
            raise UsageError(str(error)) from error
        with convert_file_errors():
            if self.out is None and (self.image is not None or self.speech is not None):
                image = None if self.image is None else self._image(self.image)
                speech = None if self.speech is None else self._speech(self.speech)
                codecs: dict[str, Any] = {
                    "image": ImageTokenizer.load(image) if isinstance(image, Path) else image,
                    "speech": SpeechTokenizer.load(speech) if isinstance(speech, Path) else speech,
                }
            else:
                tokenizers = load_tokenizers(folder)
                codecs = {"image": tokenizers.image, "speech": tokenizers.speech}
            options = PrepareOptions(needs_text=False, speaker_column=self.speaker_column)
            data = raw_signals(self.data, options) if self.data else EmbeddedSignals()
            chosen = Measurement(judges=judges, num_clips=self.num_clips)
            with Report() as report:
                figures = measure(data, out, measurement=chosen, report=report, **codecs)
        if self.json:
            print_json(figures)
        say(f"wrote {out / REPORT}: open it in a browser")
        return 0


def _describe(folder: Path | None) -> dict[str, Any]:
    """Describe the geometry and rates of a folder's tokenizers, with its hashes, as JSON values."""
    from trimask.tokenizers.bundle import SHIPPED, hashes

    tokenizers = load_tokenizers(folder)
    with convert_file_errors():
        return {**_geometry(tokenizers), "hashes": hashes(SHIPPED if folder is None else folder)}


def _geometry(tokenizers: "Tokenizers") -> dict[str, Any]:
    from trimask.tokenizer_training.train import rates
    from trimask.tokenizers.pretrained import PretrainedImageTokenizer, PretrainedSpeechTokenizer

    image, speech = tokenizers.image, tokenizers.speech
    pictures = image.family if isinstance(image, PretrainedImageTokenizer) else "trimask"
    voices = speech.family if isinstance(speech, PretrainedSpeechTokenizer) else "trimask"
    return {
        "text": {"vocabulary_size": tokenizers.text.vocabulary_size},
        "image": {"family": pictures, **rates(image)},
        "speech": {"family": voices, **rates(speech)},
    }


def _find_own_weights(name: str, kind: str) -> Path | None:
    """Find the weights of trimask's own tokenizer that `name` means, or None for a public one.

    `name` is a weights file, a run that trained a tokenizer, or `fine`, which is shipped.
    """
    from trimask.tokenizers.bundle import FINE

    path = FINE if name == "fine" else Path(name)
    if path.is_dir() and (path / f"{kind}.safetensors").is_file():
        return path / f"{kind}.safetensors"
    return path if path.is_file() else None


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}" if isinstance(value, float) else value
