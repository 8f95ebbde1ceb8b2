"""`trimask sample`: generate with a run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

import tyro

from trimask import __version__
from trimask.cli.arguments import Verb, check_paths, choose, closest
from trimask.cli.console import Report, print_json
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError, convert_file_errors
from trimask.cli.sample_inputs import (
    check_inputs,
    check_overrides,
    find_code_files,
    read_guides,
    read_prompts,
)
from trimask.cli.sample_output import NO_FILES, name_stem, print_sample, print_warnings_once
from trimask.config import from_dict, to_dict
from trimask.reading import read_text
from trimask.runs.hub import is_hub_name
from trimask.vocabulary.task import TASKS, Task
from trimask.vocabulary.transcript import is_transcript

if TYPE_CHECKING:  # this imports torch, which takes seconds: wrong arguments must be reported before that
    from trimask.generation.generate import Generator

BACKENDS = ("torch", "torch-compiled", "onnx", "onnx-int8")
"""The names in `trimask.sampling.BACKENDS`, known before torch is imported."""


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
    """a run directory, an exported file or folder, a name on the hub (owner/name), or `quickstart`"""
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
    preset: Annotated[str | None, _arg("NAME|FILE:NAME")] = None
    """sampler settings that `trimask study run sampling` chose: fast, balanced or best, of the run's own
    presets, or of those in FILE"""
    num_steps: Annotated[int | None, _arg("N")] = None
    """unmasking steps"""
    guidance_scale: Annotated[float | None, _arg("W")] = None
    """1 is no guidance; larger values follow the prompt more closely"""
    negative_prompt: Annotated[str | None, _arg("TEXT")] = None
    """what guidance leads away from, such as what samples should not show"""
    guide: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, _arg("TEXT:W")] = ()
    """a further prompt for each sample, with its guidance scale, negative to lead away (may be repeated)"""
    temperature: Annotated[float | None, _arg("T")] = None
    """0 takes the most probable code"""
    top_p: Annotated[float | None, _arg("P")] = None
    """draw from the smallest set of codes whose probabilities sum to P"""
    span_length: Annotated[int | None, _arg("N")] = None
    """room for the text (tokens) or the speech (frames), its end included; see also --sampler.TASK.length"""
    voice: Annotated[str | None, _arg("NAME")] = None
    """for text_to_speech: the speaker, named as in the data's column (default: the most frequent)"""
    pair: Annotated[str | None, _arg("image|speech")] = None
    """for joint: the modality generated with the text (default: image)"""
    filmstrip: bool = False
    """for text_to_image: also write a strip of images that shows how the first one is unmasked"""
    tokenizers: Annotated[Path | None, _arg("DIR")] = None
    """tokenizers of an exported file (default: the shipped ones)"""
    backend: Annotated[str, _arg("torch|torch-compiled|onnx|onnx-int8")] = BACKENDS[0]
    """what computes the model: ONNX Runtime is faster on CPUs (extra onnx; onnx-int8 rounds to 8 bits);
    torch-compiled compiles it first, for many samples"""
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
        tasks = None if is_hub_name(self.model) else _read_tasks(Path(self.model))
        if tasks is not None:
            check_inputs(self, self._choose_task(tasks))
            check_overrides([self.task], overrides, tasks)
        if self.out is not None:
            check_writable(self.out)
        generator = self.load()
        generator.override(overrides)
        task = self._choose_task(generator.vocabulary.tasks)
        if tasks is None:
            check_inputs(self, task)
            check_overrides([self.task], overrides, generator.vocabulary.tasks)
        prompts = read_prompts(self, task)
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
        if self.tokenizers is not None:
            found["tokenizers"] = str(self.tokenizers)
        if self.raw_prompt:
            found["raw_prompt"] = True
        if prompt is not None:
            found |= self._spell(generator, task, "prompt", prompt)
        if self.negative_prompt is not None:
            found |= self._spell(generator, task, "negative_prompt", self.negative_prompt)
        if self.guide:
            found["guides"] = [
                {**self._spell(generator, task, "prompt", text), "scale": scale}
                for text, scale in read_guides(self.guide)
            ]
        found |= {"seed": self.seed, "sample": number, "is_complete": is_complete}
        if "text" in task.condition and is_transcript(task.spans[0]):
            found["voice"] = self.voice if self.raw_prompt else generator.seen.voice(self.voice)
        for name in ("pair", "span_length", "image", "mask", "speech", "seconds", "codes"):
            value = getattr(self, name)
            if value is not None and value != ():
                found[name] = str(value) if isinstance(value, Path) else value
        return found | {"sampler": self.describe_sampler(generator, task.name)}

    def describe_sampler(self, generator: "Generator", task: str) -> dict[str, Any]:
        """Describe how a task is sampled, as JSON values."""
        return to_dict(generator.settings(task, **self._settings()))

    def _spell(self, generator: "Generator", task: Task, name: str, prompt: str) -> dict[str, str]:
        """Describe a prompt, and how the model reads it."""
        spelled = prompt if self.raw_prompt else generator.seen.prompt(task, prompt)
        return {name: prompt, f"{name}_as_spelled": spelled}

    def _choose_task(self, tasks: Sequence[Task]) -> Task:
        name = choose("task", self.task, [task.name for task in tasks])
        return next(task for task in tasks if task.name == name)

    def load(self) -> "Generator":
        path = Path(self.model)
        if self.model != "quickstart" and not path.exists() and not is_hub_name(self.model):
            beside = [str(each) for each in path.parent.glob("*") if each.is_dir()]
            close = closest(self.model, ["quickstart", *beside])
            fix = (
                f"did you mean {' or '.join(close)}?"
                if close
                else "give one that `trimask train` made, what `trimask export` wrote, or quickstart"
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
            return trimask.load(
                self.model, tokenizers=self.tokenizers, backend=self.backend, preset=self.preset
            )

    def options(self, generator: "Generator") -> dict[str, Any]:
        from trimask.cli.media import check_mask, read_codes, read_image, read_speech

        options = {"seed": self.seed, "voice": self.voice, "pair": self.pair}
        options |= self._settings() | self._guides()
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
        return options | {
            "codes": {name: read_codes(path) for name, path in find_code_files(self.codes).items()}
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }

    def _guides(self) -> dict[str, Any]:
        from trimask.generation.guides import Guide

        guides = [Guide(scale=scale, prompt=text) for text, scale in read_guides(self.guide)]
        return {"negative_prompt": self.negative_prompt, "guides": guides}

    def _filmstrip(self, generator: "Generator", prompt: str | None) -> Any:
        return generator.filmstrip(
            prompt or "",
            seed=self.seed,
            raw_prompt=self.raw_prompt,
            **self._settings(),
            **self._guides(),
        )


def _read_tasks(model: Path) -> Sequence[Task] | None:
    """Read the tasks of a model from its configuration; None if the model must be loaded to know them."""
    if not model.exists():
        return TASKS
    try:
        stored = json.loads(read_text(model / "config.json"))["run"]["tasks"]
        return [from_dict(Task, row) for row in stored]
    except (OSError, ValueError, KeyError, TypeError):  # loading the run will report what is wrong
        return None
