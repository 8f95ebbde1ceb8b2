"""`trimask demo`: generate with the shipped model, train a small one from scratch, and report both."""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trimask import io, locks
from trimask.data.selection import QuickstartData
from trimask.demo.examples import draw_examples, find_drawn, plain_caption
from trimask.demo.report import describe_shipped, describe_training, list_next_commands, measure_figures
from trimask.demo.showcase import Showcase
from trimask.errors import UserError
from trimask.generation.generate import Generator
from trimask.recipes.quickstart import quickstart, quickstart_mini
from trimask.report import Block, Code, Page, Prose, Section
from trimask.runs import load as runs
from trimask.runs.kinds import kind_of
from trimask.runs.pretrain import TOKENS, pretrain
from trimask.training.run import RunConfig

_MARK = "trimask demo"
_MARKER = "demo.json"
_OURS = ("report.html", "samples", "run", "warm-up", _MARKER)
_WARM_UP_STEPS = 24
_TITLE = "trimask demo"
_LEAD = (
    "One transformer, text + images + speech, by masked diffusion. All samples on this page were generated "
    "on this machine; real pictures and recordings are labelled as real."
)
Stage = Sequence[tuple[str, Callable[[], Block | None]]]


def run_demo(
    out: Path,
    *,
    minutes: float | int,
    seed: int = 0,
    model: str = "quickstart",
    recipe: Callable[[], RunConfig] = quickstart_mini,
    model_data: QuickstartData | None = None,
    num_images: int = 12,
    num_clips: int = 4,
    program: str = "trimask",
    report: Callable[[str], None] = lambda message: None,
) -> Path:
    """Generate with `model`, train `recipe` for `minutes`, generate with the result, and write a report.

    The report is written after the first stage and again at the end, so that a later failure loses nothing.
    Ctrl-C ends the current stage and continues with the next. An earlier demo in `out` is replaced.

    Args:
        model_data: the data that `model` was trained on; by default that of the shipped model.
        num_images, num_clips: how much to generate.
        program: how the user calls trimask; the report's commands begin with it.
        report: called with progress messages while data is encoded.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError, UserError: `model` is missing or damaged; `minutes` is not a number of at least
            0; `out` holds something other than a demo, or is locked by another process.
    """
    if not 0 <= minutes < math.inf:
        raise UserError(f"minutes is {minutes}: give a number of at least 0")
    began = time.monotonic()
    unit = "minute" if minutes == 1 else "minutes"
    generator = runs.load(model, raw_prompts=True)
    with locks.claim(out, marker=_MARKER, what="demo"):
        _clear(out, seed=seed, minutes=minutes)
        demo = _Demo(out, seed=seed, program=program, report=report)
        demo.say(
            f"1. {model} generates: pictures, speech, captions, transcripts, text (about a minute)\n"
            f"2. a small model trains from scratch for {minutes:g} {unit}, then generates\n"
            f"3. {out / 'report.html'} shows the results; samples are written to {out / 'samples'} one by "
            "one. Ctrl-C ends a stage early.\n"
        )
        data = kind_of(quickstart().data).embedded if model_data is None else model_data
        assert data is not None
        try:
            examples = draw_examples(data, seed=seed, num_images=num_images, num_clips=num_clips)
            demo.prompts["quickstart"] = plain_caption(examples.seen)
            showcase = Showcase(generator, examples, out / "samples" / "shipped", seed=seed)
            demo.add_section(Section(title="The shipped model", blocks=demo.blocks))
            demo.generate(showcase.shipped())
            if model == "quickstart":
                demo.add_section(describe_shipped())
            demo.note("shipped", time.monotonic() - began)
            if minutes:
                demo.write(is_last=False)
                demo.say(f"The first half of the report is ready: {demo.report}\n")
                demo.train(recipe(), minutes=minutes, num_images=num_images, num_clips=num_clips)
        except KeyboardInterrupt:
            demo.say("stopped")
        finally:
            # Report the results so far after any error.
            demo.write(is_last=True)
        demo.say(f"\nThe report: {demo.report.resolve()} (open it in a browser)\n\nTry next:")
        demo.say(list_next_commands(out, demo.prompts, program))
        return demo.report


@final
class _Demo:
    """The results of a demo so far, and its folder."""

    def __init__(self, out: Path, *, seed: int, program: str, report: Callable[[str], None]) -> None:
        self.out = out
        self.seed = seed
        self.program = program
        self.show_progress = report
        self.report = out / "report.html"
        self.sections: list[Section] = []
        self.blocks: list[Block] = []  # of the current section
        self.prompts: dict[str, str] = {}  # model -> a caption of its training data
        self.state = io.read_json(out / _MARKER)
        self.console = Console(highlight=False, markup=False)

    def say(self, message: str) -> None:
        self.console.print(message, soft_wrap=True)

    def note(self, stage: str, seconds: float) -> None:
        self.state["stages"][stage] = {"seconds": round(seconds, 1)}
        io.write_json(self.out / _MARKER, self.state)

    def add_section(self, section: Section | None) -> None:
        if section is not None:
            self.sections.append(section)

    def write(self, *, is_last: bool) -> None:
        """Write the report with the sections so far."""
        sections = list(self.sections)
        if not is_last:
            text = "A small model is training; this page is written again when it is done."
            sections.append(Section(title="Fresh run", blocks=(Prose(text=text, is_note=True),)))
        commands = list_next_commands(self.out, self.prompts, self.program)
        sections.append(Section(title="Go on", blocks=(Code(text=commands),)))
        Page(title=_TITLE, lead=_LEAD, sections=sections).write(self.report)

    def generate(self, stage: Stage) -> None:
        """Add the blocks of a stage to the current section one by one, so that an interrupt keeps them."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            for number, (name, make) in enumerate(stage, 1):
                task = progress.add_task(f"{number}/{len(stage)} {name}")
                began = time.monotonic()
                try:
                    block = make()
                except KeyboardInterrupt:
                    self.blocks.append(Prose(text="Stopped here by Ctrl-C.", is_note=True))
                    return
                progress.remove_task(task)
                if block is not None:
                    self.blocks.append(block)
                    progress.console.print(f"   {name}: {time.monotonic() - began:.1f} s", soft_wrap=True)

    def train(self, config: RunConfig, *, minutes: float | int, num_images: int, num_clips: int) -> None:
        """Train a new run for `minutes`, generate with it, and report both."""
        began = time.monotonic()
        config, run, warm_up = replace(config, seed=self.seed), self.out / "run", self.out / "warm-up"
        self.say("measuring this machine's speed …")
        try:
            seconds_a_step = self._measure_step_seconds(config, warm_up)
            if seconds_a_step is None:
                self.say("stopped before the training began")
                return
            config = fit_num_steps(config, seconds=60 * minutes, seconds_a_step=seconds_a_step)
            self.say(f"training: {config.num_steps} steps of {seconds_a_step:.2f} s (Ctrl-C ends it cleanly)")
            result = pretrain(
                config,
                run,
                recipe="fresh run",
                tokens=warm_up / TOKENS,
                deadline=60.0 * minutes,
                report=self.show_progress,
            )
        finally:
            shutil.rmtree(warm_up, ignore_errors=True)
        if result.stopped == "interrupted":
            self.say(f"stopped after {result.steps} steps; generating with the model so far")
        generator = runs.load(run, raw_prompts=True)
        self.blocks = describe_training(run, config, generator, result)
        self.add_section(Section(title="Fresh run", blocks=self.blocks))
        data = kind_of(config.data).embedded
        assert data is not None, "a demo shows the embedded data"
        drawn = find_drawn(config, run / TOKENS, num_updates=result.steps)
        examples = draw_examples(
            data, seed=self.seed, num_images=num_images, num_clips=num_clips, drawn=drawn
        )
        if examples.seen:
            self.prompts[str(run)] = plain_caption(examples.seen)
        showcase = Showcase(generator, examples, self.out / "samples" / "fresh", seed=self.seed)
        self.generate(self._with_figures(showcase, generator, config))
        self.note("fresh", time.monotonic() - began)

    def _with_figures(self, showcase: Showcase, generator: Generator, config: RunConfig) -> Stage:
        name, data = "figures: are the pictures their captions'?", kind_of(config.data).embedded
        assert data is not None, "a demo shows the embedded data"
        return [*showcase.fresh(), (name, lambda: measure_figures(generator, data, seed=self.seed))]

    def _measure_step_seconds(self, config: RunConfig, folder: Path) -> float | None:
        """Measure the wall-clock seconds of a step by a short run in `folder`; None if interrupted."""
        times: list[float] = []

        def note(step: int, row: Mapping[str, Any]) -> None:
            times.append(row["seconds"])

        short = replace(config, num_steps=_WARM_UP_STEPS, log_every=1, checkpoint_every=_WARM_UP_STEPS)
        result = pretrain(short, folder, recipe="warm-up", report=self.show_progress, on_progress=note)
        if result.stopped == "interrupted":
            return None
        # The first steps fill caches and allocate memory; the last row includes the final evaluation.
        return (times[-2] - times[2]) / (len(times) - 4)


def fit_num_steps(config: RunConfig, *, seconds: float | int, seconds_a_step: float) -> RunConfig:
    """Return `config` with the number of steps that fits into `seconds`, so that its schedule is completed.

    5 % are reserved for checkpoints and for a machine that slows down.
    """
    num_steps = max(int(0.95 * seconds / seconds_a_step), 1)
    return replace(
        config,
        num_steps=num_steps,
        log_every=max(min(config.log_every, num_steps // 40), 1),
        checkpoint_every=max(num_steps // 5, 1),
    )


def _clear(out: Path, *, seed: int, minutes: float | int) -> None:
    """Remove the files of an earlier demo in `out`, and mark the start of a new one."""
    mark = out / _MARKER
    if mark.exists():
        stored = io.read_json(mark)
        if not isinstance(stored, dict) or stored.get("format") != _MARK:
            raise UserError(f"{mark} was not written by trimask demo: choose another --out")
    for name in _OURS:
        path = out / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    io.write_json(mark, {"format": _MARK, "seed": seed, "minutes": minutes, "stages": {}})
