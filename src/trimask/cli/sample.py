"""`trimask sample`: generate with a run."""

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

if TYPE_CHECKING:  # this imports torch, which takes seconds: wrong arguments must be reported before that
    from trimask.generation.generate import Generator

NO_FILES = ("is_complete", "text", "sample_rate", "task")
"""Entries of a sample's JSON that are not paths of files."""
BACKENDS = ("torch", "onnx", "onnx-int8")
"""The names in `trimask.sampling.BACKENDS`, known before torch is imported."""
_MOST_BYTES = 10_000_000  # of a file of prompts


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Sample(Verb):
    """Generate with a run, an exported file, or `quickstart`, the shipped model.

    Text is printed; images (PNG) and speech (WAV) are written to --out, each with a JSON file that says how
    to reproduce it. The same seed gives the same sample. Prompts are spelled like the model's training data.
    The sampler of a task is part of a run's configuration, and can be changed here by the same path:
    --sampler.text_to_image.order Confidence.
    """

    takes_overrides: ClassVar[bool] = True

    model: Annotated[tyro.conf.Positional[str], _arg("RUN")]
    """a run directory, an exported file, or `quickstart`"""
    task: Annotated[str, _arg("TASK")]
    """text, text_to_image, image_to_text, text_to_speech, speech_to_text, joint, triple, or a model's own;
    several, separated by commas, form a chain: each uses what those before it generate"""
    prompt: Annotated[str | None, _arg("TEXT")] = None
    """caption or sentence; for task text, the beginning of the text, or a text with gaps to fill: "the
    [____] of the king", one token for each underscore"""
    prompts: Annotated[Path | None, _arg("FILE")] = None
    """a text file of prompts, one per line: --num-samples of each, the same as from --prompt"""
    raw_prompt: bool = False
    """keep the spelling of prompts, and do not warn about prompts unlike the training data"""
    image: Annotated[Path | None, _arg("FILE")] = None
    """picture to caption, of any size"""
    speech: Annotated[Path | None, _arg("FILE")] = None
    """recording to transcribe, at any sample rate"""
    mask: Annotated[Path | None, _arg("FILE")] = None
    """with --image for a task that generates pictures: paint only where this picture is white"""
    seconds: Annotated[tuple[float, float] | None, _arg("A B")] = None
    """with --speech for a task that generates speech: speak only from second A to B anew"""
    codes: Annotated[tuple[str, ...], _arg("NAME=FILE")] = ()
    """codes of a modality that trimask has no tokenizer for: integers, frames × codebooks, in a .npy file"""
    num_samples: Annotated[int, _arg("K")] = 1
    """number of samples"""
    seed: Annotated[int, _arg("S")] = 0
    """another seed gives other samples"""
    num_steps: Annotated[int | None, _arg("N")] = None
    """unmasking steps"""
    guidance_scale: Annotated[float | None, _arg("W")] = None
    """1 is no guidance; larger values follow the prompt more closely"""
    temperature: Annotated[float | None, _arg("T")] = None
    """0 takes the most probable code"""
    top_p: Annotated[float | None, _arg("P")] = None
    """draw from the smallest set of codes whose probabilities sum to P"""
    span_length: Annotated[int | None, _arg("N")] = None
    """maximum length of the text (tokens) or the speech (frames)"""
    voice: Annotated[str | None, _arg("NAME")] = None
    """for text_to_speech: the speaker, named as in the data's column (default: the most frequent)"""
    pair: Annotated[str | None, _arg("image|speech")] = None
    """for joint: the modality generated with the text (default: image)"""
    filmstrip: bool = False
    """for text_to_image: also write a strip of images that shows how the first one is unmasked"""
    tokenizers: Annotated[Path | None, _arg("DIR")] = None
    """tokenizers of an exported file (default: the shipped ones)"""
    backend: Annotated[str, _arg("torch|onnx|onnx-int8")] = BACKENDS[0]
    """what computes the model: ONNX Runtime is faster on CPUs (extra onnx; onnx-int8 rounds to 8 bits)"""
    out: Annotated[Path | None, _arg("DIR")] = None
    """folder for the files"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        check_paths(overrides, "sampler", verb=Sample)
        choose("backend", self.backend, BACKENDS)
        if "," in self.task:
            from trimask.cli.sample_chain import run_chain

            return run_chain(self, overrides)
        tasks = _read_tasks(Path(self.model))
        if tasks is not None:
            self._check(self._choose_task(tasks))
            self._check_overrides(overrides, tasks)
        if self.out is not None:
            check_writable(self.out)
        generator = self.load()
        generator.override(overrides)
        task = self._choose_task(generator.vocabulary.tasks)
        if tasks is None:
            self._check(task)
            self._check_overrides(overrides, generator.vocabulary.tasks)
        prompts = self._prompts(task)
        described: list[dict[str, Any]] = []
        for sample in self._samples(generator, task, prompts):
            described.append(sample)
            if not self.json:
                print_sample(sample)
        if self.json:
            files = [each[kind] for each in described for kind in each if kind not in NO_FILES]
            request = {"model": self.model, "task": task.name, "seed": self.seed}
            strips = [sample["filmstrip"] for sample in described if "filmstrip" in sample]
            strip = {"filmstrip": strips[0]} if strips else {}
            print_json({**request, "samples": described, **strip, "files": files})
        return 0

    def _samples(
        self, generator: "Generator", task: Task, prompts: list[str] | None
    ) -> Iterator[dict[str, Any]]:
        """Generate the samples one by one, write each to --out, and yield its description as JSON values."""
        from trimask.cli.samples import SampleFolder

        report, folder = Report(), None if self.out is None else SampleFolder(self.out)
        given = [self.prompt] if prompts is None else prompts
        requests = [(prompt, number) for prompt in given for number in range(self.num_samples)]
        with print_warnings_once():
            results = generator.generate_each(
                task.name,
                self.prompt if prompts is None else prompts,
                num_samples=self.num_samples,
                numbers=[number for _, number in requests],
                span_length=self.span_length,
                raw_prompt=self.raw_prompt,
                **self.options(generator),
            )
            for index, (prompt, number) in enumerate(requests):
                if len(requests) > 1:
                    report(f"generating {index + 1:,}/{len(requests):,}")
                result = next(results)
                report.end_line()
                sample: dict[str, Any] = {"is_complete": result.is_complete}
                if result.text is not None:
                    sample["text"] = result.text
                if folder is not None:
                    strip = self._filmstrip(generator, prompt) if self.filmstrip and not index else None
                    sample |= folder.write(
                        result,
                        stem=name_stem(task.name, prompt, self.seed),
                        made_with=self.describe_settings(generator, task, prompt, number, result.is_complete),
                        filmstrip=strip,
                    )
                yield sample

    def describe_settings(
        self, generator: "Generator", task: Task, prompt: str | None, number: int, is_complete: bool
    ) -> dict[str, Any]:
        """Describe everything that determines a sample, as JSON values.

        `number` counts from 0: `trimask sample` with these settings and --num-samples of at least
        `number` + 1 gives the sample again.
        """
        found: dict[str, Any] = {"trimask": __version__, "model": self.model, "task": task.name}
        found["backend"] = self.backend
        if prompt is not None:
            found["prompt"] = prompt
            found["prompt_as_spelled"] = prompt if self.raw_prompt else generator.seen.prompt(task, prompt)
        found |= {"seed": self.seed, "sample": number, "is_complete": is_complete}
        if "text" in task.condition and is_transcript(task.spans[0]):
            found["voice"] = self.voice if self.raw_prompt else generator.seen.voice(self.voice)
        for name in ("pair", "span_length", "image", "mask", "speech", "seconds", "codes"):
            value = getattr(self, name)
            if value is not None and value != ():
                found[name] = str(value) if isinstance(value, Path) else value
        return found | {"sampler": to_dict(generator.settings(task.name, **self._settings()))}

    def _choose_task(self, tasks: Sequence[Task]) -> Task:
        name = choose("task", self.task, [task.name for task in tasks])
        return next(task for task in tasks if task.name == name)

    def _check(self, task: Task) -> None:
        """Check the arguments as far as possible without loading the model."""
        if self.out is None and (task.targets != {"text"} or self.filmstrip):
            raise UsageError(f"task {task.name} writes files: give a folder for them with --out DIR")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file: name a folder")
        if self.filmstrip and task.name != "text_to_image":
            raise UsageError(f"--filmstrip is for task text_to_image, not {task.name}: leave it out")
        given = {"image": self.image, "speech": self.speech, **self._code_files()}
        used = {*task.condition, *task.targets}
        unused = [" ".join(option_of(n, str(p))) for n, p in given.items() if p and n not in used]
        for name in task.condition:
            if name != "text" and given.get(name) is None:
                more = f", and does not use {unused[0]}" if unused else ""
                raise UsageError(f"task {task.name} needs {' '.join(option_of(name, 'FILE'))}{more}")
        for name, path in given.items():
            if path is None:
                continue
            option = " ".join(option_of(name, str(path)))
            if name not in used:
                raise UsageError(f"task {task.name} does not use {option}: leave it out")
            if (problem := find_problem(path)) is not None:
                raise UsageError(f"{option} {problem}")
        self._check_parts(task)
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError(f"the prompt {self.prompt!r} is empty: give some text")
        if self.pair is not None:
            choose("pair", self.pair, ["image", "speech"])

    def _check_parts(self, task: Task) -> None:
        """Check what says which part of a picture or recording to generate."""
        for name, part, value, wanted in (
            ("image", "mask", self.mask, "FILE, white where it is to be painted"),
            ("speech", "seconds", self.seconds, "A B, where it is to be spoken anew"),
        ):
            given = getattr(self, name)
            is_target = name in task.targets and name not in task.condition
            if value is not None and (given is None or not is_target):
                raise UsageError(
                    f"--{part} says which part of --{name} FILE a task generates, and task {task.name} "
                    f"{'has none' if is_target else f'generates no {name}'}: leave it out, or give --{name}"
                )
            if given is not None and is_target and value is None and len(task.targets) == 1:
                raise UsageError(
                    f"--{name} {given} is what task {task.name} generates: leave it out, or give --{part} "
                    f"{wanted}"
                )
        if self.mask is not None and (problem := find_problem(self.mask)) is not None:
            raise UsageError(f"--mask {self.mask} {problem}")

    def _check_overrides(self, overrides: Mapping[str, str], tasks: Sequence[Task]) -> None:
        """Raise UsageError for a setting of the sampler of another task."""
        for path in overrides:
            _, other, *rest = path.split(".")
            if other != self.task and other in [task.name for task in tasks]:
                own = ".".join(["--sampler", self.task, *rest])
                raise UsageError(
                    f"task {self.task} does not use --{path}, a setting of task {other}: leave it out, or "
                    f"give {own}"
                )

    def _prompts(self, task: Task) -> list[str] | None:
        """Read the prompts of --prompts, one per line, without empty lines. None without that option."""
        if self.prompts is None:
            return None
        if self.prompt is not None:
            raise UsageError("--prompt and --prompts exclude each other: give one of them")
        if "text" not in task.condition and not task.is_alone:
            raise UsageError(f"task {task.name} does not use --prompts: leave it out")
        if (problem := find_problem(self.prompts)) is not None:
            raise UsageError(f"--prompts {self.prompts} {problem}")
        size = self.prompts.stat().st_size
        if size > _MOST_BYTES:
            raise UsageError(
                f"--prompts {self.prompts} has {size:,} bytes, more than {_MOST_BYTES:,}: split it"
            )
        try:
            text = self.prompts.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise Failed(f"{self.prompts} is not UTF-8 ({error}): convert it") from error
        found = [line.strip() for line in text.split("\n") if line.strip()]
        if not found:
            raise UsageError(f"--prompts {self.prompts} contains no prompt: write one per line")
        return found

    def load(self) -> "Generator":
        path = Path(self.model)
        if self.model != "quickstart" and not path.exists():
            beside = [str(each) for each in path.parent.glob("*") if each.is_dir()]
            close = closest(self.model, ["quickstart", *beside])
            fix = (
                f"did you mean {' or '.join(close)}?"
                if close
                else "give one that `trimask train` made, a file that `trimask export` wrote, or quickstart"
            )
            raise UsageError(f"{self.model} is not a run directory: {fix}")
        if self.tokenizers is not None and not path.is_file():
            raise UsageError(
                f"--tokenizers is for an exported file, and {self.model} has its own: leave it out"
            )
        if self.tokenizers is not None and not self.tokenizers.is_dir():
            raise UsageError(
                f"--tokenizers {self.tokenizers} is not a folder: give RUN/tokenizers of the run"
            )
        import trimask

        with convert_file_errors():
            return trimask.load(self.model, tokenizers=self.tokenizers, backend=self.backend)

    def options(self, generator: "Generator") -> dict[str, Any]:
        from trimask.cli.media import check_mask, read_codes, read_image, read_speech

        options = {"seed": self.seed, "voice": self.voice, "pair": self.pair, **self._settings()}
        if self.image is not None:
            assert generator.codecs.image is not None
            options["image"] = read_image(self.image, generator.codecs.image.image_size)
        if self.mask is not None and self.image is not None:
            check_mask(self.mask, self.image)
            options["mask"] = self.mask
        if self.seconds is not None:
            options["seconds"] = self.seconds
        if self.speech is not None:
            assert generator.codecs.speech is not None
            options["speech"] = read_speech(self.speech, generator.codecs.speech.sample_rate)
        return options | {"codes": {name: read_codes(path) for name, path in self._code_files().items()}}

    def _code_files(self) -> dict[str, Path]:
        found = {}
        for each in self.codes:
            name, equals, path = each.partition("=")
            if not (name and equals and path):
                raise UsageError(
                    f"--codes {each} is not NAME=FILE: give a modality and the file of its codes"
                )
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


# A model may generate control characters, which would move the terminal's cursor: print their symbols
# instead. Files keep them.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def print_sample(sample: Mapping[str, Any]) -> None:
    if "text" in sample:
        print(sample["text"].translate(_PICTURES))
    for kind in sample:
        if kind not in (*NO_FILES, "settings"):
            say(f"wrote {sample[kind]}")


def option_of(modality: str, file: str) -> list[str]:
    """Return the words of the command line that give `file` as the condition of `modality` (not text)."""
    return [f"--{modality}", file] if modality in MODALITIES else ["--codes", f"{modality}={file}"]


def _read_tasks(model: Path) -> Sequence[Task] | None:
    """Read the tasks of a model from its configuration; None if the model must be loaded to know them."""
    if not model.exists():
        return TASKS
    try:
        stored = json.loads(read_text(model / "config.json"))["run"]["tasks"]
        return [from_dict(Task, row) for row in stored]
    except (OSError, ValueError, KeyError, TypeError):  # loading the run will report what is wrong
        return None


@contextmanager
def print_warnings_once() -> Iterator[None]:
    """Print each warning within this block as one line, and only once."""
    printed: set[str] = set()

    def print_once(message: Warning | str, *rest: Any, **more: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = print_once
        yield


def name_stem(task: str, prompt: str | None, seed: int) -> str:
    """Return the stem of the names of sample files: task, first words of the prompt, seed."""
    letters = "".join(c if c.isalnum() else " " for c in (prompt or "").lower())
    words = "-".join(letters.split())[:40].rstrip("-")
    return "_".join(filter(None, [task, words, f"seed{seed}"]))
