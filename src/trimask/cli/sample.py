"""`trimask sample`: a run generates."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

import tyro

from trimask import __version__
from trimask.cli.arguments import Verb, check_paths, choose, closest
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.config import from_dict, to_dict
from trimask.reading import find_problem, read_text
from trimask.vocabulary.task import MODALITIES, TASKS, Task
from trimask.vocabulary.transcript import is_transcript

if TYPE_CHECKING:  # torch takes seconds to import: wrong arguments are told before
    from trimask.sampling.generate import Generator

_NO_FILES = ("is_complete", "text", "sample_rate")
_MOST_BYTES = 10_000_000  # of a file of prompts


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Sample(Verb):
    """Generate with a run, with an exported file, or with `quickstart`, the model that ships.

    Text is printed; images (PNG) and speech (WAV) are written to --out, each with a JSON file of how it was
    made. The same seed gives the same sample. Captions and sentences are spelled as the model's data were.
    How a task is sampled is part of a run's configuration, and can be changed here by the same path:
    --sampler.text_to_image.order Confidence.
    """

    takes_overrides: ClassVar[bool] = True

    model: Annotated[tyro.conf.Positional[str], _arg("RUN")]
    """a run's directory, an exported file, or `quickstart`"""
    task: Annotated[str, _arg("TASK")]
    """text, text_to_image, image_to_text, text_to_speech, speech_to_text, joint, triple, or a model's own"""
    prompt: Annotated[str | None, _arg("TEXT")] = None
    """caption or sentence; for task text, how the text begins"""
    prompts: Annotated[Path | None, _arg("FILE")] = None
    """a text file of prompts, one a line: --num-samples of each, as each alone would give"""
    raw_prompt: bool = False
    """take prompts as they are spelled, and do not say when one is far from what the model has seen"""
    image: Annotated[Path | None, _arg("FILE")] = None
    """picture to caption, of any size"""
    speech: Annotated[Path | None, _arg("FILE")] = None
    """recording to transcribe, at any sample rate"""
    codes: Annotated[tuple[str, ...], _arg("NAME=FILE")] = ()
    """of a modality without a tokenizer of ours: integers, frames × codebooks, in a .npy file"""
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
    """for text_to_speech: who speaks, as the data's column has the name (else the commonest voice)"""
    pair: Annotated[str | None, _arg("image|speech")] = None
    """for joint: what stands beside the text (else image)"""
    filmstrip: bool = False
    """for text_to_image: also write how the first image is unmasked"""
    tokenizers: Annotated[Path | None, _arg("DIR")] = None
    """of an exported file, where they are not those that ship"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """folder for the files"""
    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        check_paths(overrides, "sampler", verb=Sample)
        tasks = _read_tasks(Path(self.model))
        if tasks is not None:
            self._check(self._choose_task(tasks))
        if self.out is not None:
            check_writable(self.out)
        generator = self._load()
        generator.override(overrides)
        task = self._choose_task(generator.vocabulary.tasks)
        if tasks is None:
            self._check(task)
        prompts = self._prompts(task)
        described: list[dict[str, Any]] = []
        for sample in self._samples(generator, task, prompts):
            described.append(sample)
            if not self.json:
                _print_sample(sample)
        if self.json:
            files = [each[kind] for each in described for kind in each if kind not in _NO_FILES]
            shown = {"model": self.model, "task": task.name, "seed": self.seed}
            strips = [sample["filmstrip"] for sample in described if "filmstrip" in sample]
            strip = {"filmstrip": strips[0]} if strips else {}
            print_json({**shown, "samples": described, **strip, "files": files})
        return 0

    def _samples(
        self, generator: "Generator", task: Task, prompts: list[str] | None
    ) -> Iterator[dict[str, Any]]:
        """Generate, write and describe each sample as it comes."""
        from trimask.cli.samples import SampleFolder

        report, folder = Report(), None if self.out is None else SampleFolder(self.out)
        given = [self.prompt] if prompts is None else prompts
        asked = [(prompt, number) for prompt in given for number in range(self.num_samples)]
        with print_warnings_once():
            made = generator.generate_each(
                task.name,
                self.prompt if prompts is None else prompts,
                num_samples=self.num_samples,
                numbers=[number for _, number in asked],
                span_length=self.span_length,
                raw_prompt=self.raw_prompt,
                **self._options(generator),
            )
            for place, (prompt, number) in enumerate(asked):
                if len(asked) > 1:
                    report(f"generating {place + 1:,}/{len(asked):,}")
                result = next(made)
                report.end_line()
                sample: dict[str, Any] = {"is_complete": result.is_complete}
                if result.text is not None:
                    sample["text"] = result.text
                if folder is not None:
                    strip = self._filmstrip(generator, prompt) if self.filmstrip and not place else None
                    sample |= folder.write(
                        result,
                        stem=_stem(task.name, prompt, self.seed),
                        made_with=self._describe_settings(
                            generator, task, prompt, number, result.is_complete
                        ),
                        filmstrip=strip,
                    )
                yield sample

    def _describe_settings(
        self, generator: "Generator", task: Task, prompt: str | None, number: int, is_complete: bool
    ) -> dict[str, Any]:
        """All that fixes a sample: with `number` counted from 0, it is that of `trimask sample` with
        --num-samples above it.
        """
        found: dict[str, Any] = {"trimask": __version__, "model": self.model, "task": task.name}
        if prompt is not None:
            found["prompt"] = prompt
            found["prompt_as_spelled"] = prompt if self.raw_prompt else generator.seen.prompt(task, prompt)
        found |= {"seed": self.seed, "sample": number, "is_complete": is_complete}
        if "text" in task.condition and is_transcript(task.spans[0]):
            found["voice"] = self.voice if self.raw_prompt else generator.seen.voice(self.voice)
        for name in ("pair", "span_length", "image", "speech", "codes"):
            value = getattr(self, name)
            if value is not None and value != ():
                found[name] = str(value) if isinstance(value, Path) else value
        return found | {"sampler": to_dict(generator.settings(task.name, **self._settings()))}

    def _choose_task(self, tasks: Sequence[Task]) -> Task:
        name = choose("task", self.task, [task.name for task in tasks])
        return next(task for task in tasks if task.name == name)

    def _check(self, task: Task) -> None:
        """What can be told without loading anything."""
        if self.out is None and (task.targets != {"text"} or self.filmstrip):
            raise UsageError(f"task {task.name} makes files: say where to write them with --out DIR")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file: name a folder")
        if self.filmstrip and task.name != "text_to_image":
            raise UsageError(f"--filmstrip is for task text_to_image, not {task.name}: leave it out")
        given = {"image": self.image, "speech": self.speech, **self._code_files()}
        for name in task.condition:
            if name != "text" and given.get(name) is None:
                raise UsageError(f"task {task.name} needs {' '.join(option_of(name, 'FILE'))}")
        for name, path in given.items():
            if path is None:
                continue
            option = " ".join(option_of(name, str(path)))
            if name not in task.condition:
                raise UsageError(f"task {task.name} has no use for {option}: leave it out")
            if (problem := find_problem(path)) is not None:
                raise UsageError(f"{option} {problem}")
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError(f"the prompt {self.prompt!r} is empty: give some text")
        if self.pair is not None:
            choose("pair", self.pair, ["image", "speech"])

    def _prompts(self, task: Task) -> list[str] | None:
        """Those of --prompts, one a line; empty lines are left out."""
        if self.prompts is None:
            return None
        if self.prompt is not None:
            raise UsageError("--prompt and --prompts: give one of them")
        if "text" not in task.condition and not task.is_alone:
            raise UsageError(f"task {task.name} has no use for --prompts: leave it out")
        if (problem := find_problem(self.prompts)) is not None:
            raise UsageError(f"--prompts {self.prompts} {problem}")
        size = self.prompts.stat().st_size
        if size > _MOST_BYTES:
            raise UsageError(
                f"--prompts {self.prompts} has {size:,} bytes, and {_MOST_BYTES:,} is the most: split it"
            )
        try:
            text = self.prompts.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise Failed(f"{self.prompts} is not UTF-8 ({error}): convert it") from error
        found = [line.strip() for line in text.split("\n") if line.strip()]
        if not found:
            raise UsageError(f"--prompts {self.prompts} has no prompt in it: write one a line")
        return found

    def _load(self) -> "Generator":
        path = Path(self.model)
        if self.model != "quickstart" and not path.exists():
            beside = [str(each) for each in path.parent.glob("*") if each.is_dir()]
            close = closest(self.model, ["quickstart", *beside])
            mend = (
                f"did you mean {' or '.join(close)}?"
                if close
                else "give one that `trimask train` made, a file that `trimask export` wrote, or quickstart"
            )
            raise UsageError(f"{self.model} is not a run directory: {mend}")
        if self.tokenizers is not None and not path.is_file():
            raise UsageError(
                f"--tokenizers is for an exported file, and {self.model} has its own: leave it out"
            )
        if self.tokenizers is not None and not self.tokenizers.is_dir():
            raise UsageError(f"--tokenizers {self.tokenizers} is no folder: give RUN/tokenizers of its run")
        import trimask

        with convert_file_errors():
            return trimask.load(self.model, tokenizers=self.tokenizers)

    def _options(self, generator: "Generator") -> dict[str, Any]:
        from trimask.cli.media import read_codes, read_image, read_speech

        options = {"seed": self.seed, "voice": self.voice, "pair": self.pair, **self._settings()}
        if self.image is not None:
            assert generator.codecs.image is not None
            options["image"] = read_image(self.image, generator.codecs.image.image_size)
        if self.speech is not None:
            assert generator.codecs.speech is not None
            options["speech"] = read_speech(self.speech, generator.codecs.speech.sample_rate)
        return options | {"codes": {name: read_codes(path) for name, path in self._code_files().items()}}

    def _code_files(self) -> dict[str, Path]:
        found = {}
        for each in self.codes:
            name, equals, path = each.partition("=")
            if not (name and equals and path):
                raise UsageError(f"--codes {each}: give NAME=FILE, the modality and its codes")
            found[name] = Path(path)
        return found

    def _settings(self) -> dict[str, Any]:
        return {
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }

    def _filmstrip(self, generator: "Generator", prompt: str | None) -> Any:
        return generator.filmstrip(
            prompt or "", seed=self.seed, raw_prompt=self.raw_prompt, **self._settings()
        )


# A model may write what moves a terminal's cursor: it is shown as a picture of itself (files keep it).
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def _print_sample(sample: Mapping[str, Any]) -> None:
    if "text" in sample:
        print(sample["text"].translate(_PICTURES))
    for kind in sample:
        if kind not in (*_NO_FILES, "settings"):
            say(f"wrote {sample[kind]}")


def option_of(modality: str, file: str) -> list[str]:
    """The words that give a condition which is no text."""
    return [f"--{modality}", file] if modality in MODALITIES else ["--codes", f"{modality}={file}"]


def _read_tasks(model: Path) -> Sequence[Task] | None:
    """The tasks of a model, told without loading it; None where it has to be loaded for that."""
    if not model.exists():
        return TASKS
    try:
        stored = json.loads(read_text(model / "config.json"))["run"]["tasks"]
        return [from_dict(Task, row) for row in stored]
    except (OSError, ValueError, KeyError, TypeError):  # whoever loads the run says what is wrong
        return None


@contextmanager
def print_warnings_once() -> Iterator[None]:
    """Within this, warnings are told in a line each, once."""
    told: set[str] = set()

    def tell(message: Warning | str, *rest: Any, **more: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = tell
        yield


def _stem(task: str, prompt: str | None, seed: int) -> str:
    """How the files of these samples are called: task, first words of the prompt, seed."""
    letters = "".join(c if c.isalnum() else " " for c in (prompt or "").lower())
    words = "-".join(letters.split())[:40].rstrip("-")
    return "_".join(filter(None, [task, words, f"seed{seed}"]))
