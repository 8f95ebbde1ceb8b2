"""`trimask sample`: a run generates."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import tyro

from trimask.cli.arguments import Verb, choose, closest
from trimask.cli.console import print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError, reading_files
from trimask.vocabulary.modality import Task

if TYPE_CHECKING:  # torch takes seconds to import: wrong arguments are told before
    from trimask.sampling.generate import Generator

_TEXT_ONLY = (Task.TEXT, Task.IMAGE_TO_TEXT, Task.SPEECH_TO_TEXT)


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Sample(Verb):
    """Generate with a run, or with `quickstart`, the model that ships.

    Text is printed; images (PNG) and speech (WAV) are written to --out. The same seed gives the same sample.
    """

    model: Annotated[tyro.conf.Positional[str], _arg("RUN")]
    """a run's directory, or `quickstart`"""
    task: Annotated[str, _arg("TASK")]
    """text, text_to_image, image_to_text, text_to_speech, speech_to_text, joint or triple"""
    prompt: Annotated[str | None, _arg("TEXT")] = None
    """caption or sentence; for task text, how the text begins"""
    image: Annotated[Path | None, _arg("FILE")] = None
    """picture to caption, of any size"""
    audio: Annotated[Path | None, _arg("FILE")] = None
    """recording to transcribe, at any sample rate"""
    num_samples: Annotated[int, _arg("K")] = 1
    """how many"""
    seed: Annotated[int, _arg("S")] = 0
    """another seed gives other samples"""
    num_steps: Annotated[int | None, _arg("N")] = None
    """unmasking steps"""
    guidance_scale: Annotated[float | None, _arg("W")] = None
    """1 is none; more follows the prompt more closely"""
    temperature: Annotated[float | None, _arg("T")] = None
    """0 takes the most probable code"""
    top_p: Annotated[float | None, _arg("P")] = None
    """draw from the most probable codes that hold this much probability"""
    span_length: Annotated[int | None, _arg("N")] = None
    """room for the text (tokens) or the speech (frames)"""
    voice: Annotated[str | None, _arg("NAME")] = None
    """for text_to_speech: who speaks: slt or rms, or a speaker of your own data (else slt)"""
    pair: Annotated[str | None, _arg("image|audio")] = None
    """for joint: what stands beside the text (else image)"""
    filmstrip: bool = False
    """for text_to_image: also write how the first image is unmasked"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """folder for the files"""
    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        task = Task(choose("task", self.task, list(Task)))
        self._check(task)
        if self.out is not None:
            check_writable(self.out)
        generator = self._load()
        from trimask.cli.media import read_audio, read_image, write_samples

        options = self._options()
        if task is Task.IMAGE_TO_TEXT and self.image is not None:
            assert generator.codecs.image is not None
            options["image"] = read_image(self.image, generator.codecs.image.image_size)
        if task is Task.SPEECH_TO_TEXT and self.audio is not None:
            assert generator.codecs.speech is not None
            options["audio"] = read_audio(self.audio, generator.codecs.speech.sample_rate)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = generator.generate_many(
                task, self.prompt, num_samples=self.num_samples, span_length=self.span_length, **options
            )
            strip = self._filmstrip(generator) if self.filmstrip else None
        for message in dict.fromkeys(str(warning.message) for warning in caught):
            say(f"warning: {message}")
        described = write_samples(
            results, self.out, stem=_stem(task, self.prompt, self.seed), filmstrip=strip
        )
        if self.json:
            print_json({"model": self.model, "task": task.value, "seed": self.seed, **described})
            return 0
        for sample in described["samples"]:
            if "text" in sample:
                print(sample["text"])
        for path in described["files"]:
            say(f"wrote {path}")
        return 0

    def _check(self, task: Task) -> None:
        """What can be told without loading anything."""
        if self.out is None and (task not in _TEXT_ONLY or self.filmstrip):
            raise UsageError(f"task {task.value} makes files: say where to write them with --out DIR")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file: name a folder")
        if self.filmstrip and task is not Task.TEXT_TO_IMAGE:
            raise UsageError(f"--filmstrip is for task text_to_image, not {task.value}: leave it out")
        for name, path, wanted in (
            ("image", self.image, Task.IMAGE_TO_TEXT),
            ("audio", self.audio, Task.SPEECH_TO_TEXT),
        ):
            if path is None and task is wanted:
                raise UsageError(f"task {task.value} needs --{name} FILE")
            if path is not None and task is not wanted:
                raise UsageError(f"task {task.value} has no use for --{name}: leave it out")
            if path is not None and not path.is_file():
                raise UsageError(f"--{name} {path}: there is no such file")
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError(f"the prompt {self.prompt!r} is empty: give some text")
        if self.voice is not None and not _has_own_speakers(Path(self.model)):
            choose("voice", self.voice, ["slt", "rms"])
        if self.pair is not None:
            choose("pair", self.pair, ["image", "audio"])

    def _load(self) -> "Generator":
        folder = Path(self.model)
        if self.model != "quickstart" and not folder.is_dir():
            beside = [str(path) for path in folder.parent.glob("*") if path.is_dir()]
            close = closest(self.model, ["quickstart", *beside])
            mend = (
                f"did you mean {' or '.join(close)}?"
                if close
                else "give one that `trimask train` made, or quickstart"
            )
            raise UsageError(f"{self.model} is no run directory: {mend}")
        import trimask

        with reading_files():
            return trimask.load(self.model)

    def _options(self) -> dict[str, Any]:
        return {"seed": self.seed, "voice": self.voice, "pair": self.pair, **self._settings()}

    def _settings(self) -> dict[str, Any]:
        return {
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }

    def _filmstrip(self, generator: "Generator") -> Any:
        return generator.filmstrip(self.prompt or "", seed=self.seed, **self._settings())


def _has_own_speakers(run: Path) -> bool:
    """Whether a run was trained on prepared data, whose speakers are not those that ship."""
    from trimask.io import read_json

    config = run / "config.json"
    with reading_files():
        stored = read_json(config) if config.is_file() else None
    data = stored.get("run", {}).get("data", {}) if isinstance(stored, dict) else {}
    return data.get("type") == "PreparedData"


def _stem(task: Task, prompt: str | None, seed: int) -> str:
    """How the files of these samples are called: task, first words of the prompt, seed."""
    letters = "".join(c if c.isalnum() else " " for c in (prompt or "").lower())
    words = "-".join(letters.split())[:40].rstrip("-")
    return "_".join(filter(None, [task.value, words, f"seed{seed}"]))
