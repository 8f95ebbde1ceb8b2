"""`trimask evaluate`: compute a run's scorecard, every score beside its floor and its ceiling."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn, final

import tyro

from trimask.cli.arguments import Verb, check_parallel, check_paths, choose, closest
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.errors import UserError
from trimask.runs.hub import is_hub_name
from trimask.scorecard.suite import HELD_OUT, SUITES, Suite

if TYPE_CHECKING:  # this imports torch, which takes seconds: wrong arguments must be reported before that
    from trimask.evaluation.judges.panel import Panel

_JUDGES_BYTES = 800_000_000  # the judges, and the wheels that they are extracted from


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Evaluate(Verb):
    """Score a run, or `quickstart`, the shipped model: likelihoods, pictures, captions, speech, text.

    Each score comes with its floor and its ceiling, measured in the same way, on the run's training data
    (embedded or prepared) and on unseen data of the same kind. Judges are outside models: a folder that
    --fetch-judges filled, or role=NAME_OR_FOLDER, where role is recognizer, speaker, quality, images,
    sentences or language-model. Scores without their judge are left out, and the scorecard lists them. The
    sampler of a task can be changed: --sampler.text_to_image.num_steps 64.
    """

    takes_overrides: ClassVar[bool] = True

    model: Annotated[tyro.conf.Positional[str | None], _arg("RUN")] = None
    """a run directory, a folder that `trimask export` wrote, its name on the hub, or `quickstart`"""
    suite: Annotated[str, _arg("quick|full")] = "quick"
    """quick: minutes; full: more examples of everything"""
    split: Annotated[str, _arg("validation|test")] = "validation"
    """the split used as unseen data; the training split is scored too"""
    judges: Annotated[tuple[str, ...], _arg("DIR|ROLE=NAME")] = ()
    """folders of judges, or role=NAME_OR_FOLDER (hub names too)"""
    fetch_judges: Annotated[Path | None, _arg("DIR")] = None
    """download the pinned judges (about 390 MB) into DIR with this Python's pip; then score RUN if given"""
    lm_tasks: Annotated[tuple[str, ...], _arg("TASK")] = ()
    """lm-eval tasks to run too (names or YAML files); their likelihoods are bounds"""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, _arg("DIR")] = ()
    """where the run's prepared data is now, if it has moved; may be given several times"""
    out: Annotated[Path | None, _arg("FILE")] = None
    """JSON file to write"""
    language: Annotated[str | None, _arg("CODE")] = None
    """language of the recordings, for the recognizer (default: the data's column `language`, or English)"""
    seed: Annotated[int, _arg("S")] = 0
    """seed of samples, masks and choices"""
    preset: Annotated[str | None, _arg("NAME|FILE:NAME")] = None
    """sampler settings that `trimask study run sampling` chose, as in `trimask sample`"""
    num_sequences: Annotated[int | None, _arg("N")] = None
    """examples per task and split, instead of the suite's"""
    num_masks: Annotated[int | None, _arg("N")] = None
    """masks per example and NELBO, instead of the suite's"""
    threads: Annotated[int | None, _arg("N")] = None
    """CPU threads (default: all cores)"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        check_paths(overrides, "sampler", verb=Evaluate)
        self._check()
        if self.fetch_judges is not None:
            self._fetch(self.fetch_judges)
        if self.model is None:
            return 0
        from trimask import io
        from trimask.scorecard.evaluate import NamesError, evaluate

        judges = self._panel()
        self._limit_threads()
        self._warn_overwrite()
        try:
            with Report() as report, convert_file_errors():
                scores = evaluate(
                    self.model,
                    suite=self._suite(),
                    judges=judges,
                    language=self.language,
                    seed=self.seed,
                    held_out=HELD_OUT[self.split],
                    harness_tasks=self.lm_tasks,
                    report=report,
                    warn=report.note,
                    save=self._save,
                    data=self.data,
                    preset=self.preset,
                    overrides=overrides,
                )
        except Failed as error:
            if isinstance(error.__cause__, NamesError):
                _fail_with_all(error.__cause__.problems)
            raise
        except ImportError as error:
            raise Failed(str(error)) from error
        if self.out is not None:
            io.write_json(self.out, scores)
        if self.json:
            print_json(scores)
        else:
            _print_tables(scores)
        if self.out is not None:
            say(f"wrote {self.out} after {scores['seconds']:.0f} s")
        return self._print_failures(scores.get("failed", []))

    def _save(self, scores: dict[str, Any]) -> None:
        """Write the scores so far to --out, so that a stopped evaluation keeps them."""
        from trimask import io

        if self.out is not None:
            io.write_json(self.out, {**scores, "is_finished": False})

    def _warn_overwrite(self) -> None:
        """Warn that an existing file at --out will be overwritten."""
        if self.out is not None and self.out.is_file():
            say(f"{self.out} exists and will be overwritten")

    def _print_failures(self, failed: Sequence[Mapping[str, str]]) -> int:
        for row in failed:
            say(f"not scored: {row['scores']}: {row['why']}")
        return 1 if failed else 0

    def _suite(self) -> Suite:
        suite = SUITES[choose("suite", self.suite, SUITES)]
        if self.num_sequences is not None:
            suite = replace(suite, num_sequences=self.num_sequences, num_clips=self.num_sequences)
        return suite if self.num_masks is None else replace(suite, num_masks=self.num_masks)

    def _check(self) -> None:
        """Check the arguments as far as possible without loading anything; report all errors at once."""
        checks: list[Callable[[], object]] = [
            self._suite,
            lambda: choose("split", self.split, HELD_OUT),
            self._check_model,
            self._check_out,
        ]
        checks.append(lambda: check_parallel(threads=self.threads))
        if self.judges and self.fetch_judges is None:
            checks.append(self._panel)
        wrong = []
        for check in checks:
            try:
                check()
            except UserError as error:
                wrong.append(str(error))
        if wrong:
            _fail_with_all(wrong)

    def _check_model(self) -> None:
        if self.model is None:
            if self.fetch_judges is None:
                raise UsageError("give RUN (a run's directory, or quickstart), or --fetch-judges DIR")
            if self.out is not None or self.judges or self.lm_tasks:
                raise UsageError("without RUN nothing is scored: leave --out, --judges and --lm-tasks out")
        elif self.model != "quickstart" and not Path(self.model).is_dir() and not is_hub_name(self.model):
            beside = [str(path) for path in Path(self.model).parent.glob("*") if path.is_dir()]
            close = closest(self.model, ["quickstart", *beside])
            fix = f"did you mean {' or '.join(close)}?" if close else "give one that `trimask train` made"
            raise UsageError(f"{self.model} is not a run directory: {fix}")

    def _check_out(self) -> None:
        if self.out is not None:
            if self.out.is_dir():
                raise UsageError(
                    f"--out {self.out} is a folder: name a file, such as {self.out / 'scores.json'}"
                )
            check_writable(self.out.parent)

    def _fetch(self, folder: Path) -> None:
        from trimask.evaluation.judges.fetch import fetch

        check_writable(folder, num_bytes=_JUDGES_BYTES)
        with convert_file_errors():
            fetched = fetch(folder, report=Report())
        say(f"{folder} holds all pinned judges ({len(fetched)} fetched): score with --judges {folder}")
        if self.json and self.model is None:
            print_json({"folder": str(folder), "fetched": fetched})

    def _panel(self) -> "Panel":
        from trimask.evaluation.judges.panel import Panel

        words = self.judges
        if not words and self.fetch_judges is not None:
            words = (str(self.fetch_judges),)
        try:
            return Panel.parse(words)
        except UserError as error:
            raise UsageError(str(error)) from error

    def _limit_threads(self) -> None:
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)


def _fail_with_all(problems: Sequence[str]) -> NoReturn:
    """Print all problems but the last, one per line, and raise UsageError with the last."""
    for problem in problems[:-1]:
        say(f"error: {problem}")
    raise UsageError(problems[-1])


def _print_tables(scores: Mapping[str, Any]) -> None:
    """Print the scorecard's tables on the terminal, the same as those of the report."""
    from rich.console import Console
    from rich.table import Table as RichTable

    from trimask.report import Prose, Table
    from trimask.scorecard.tables import scorecard_blocks

    console = Console(
        width=max(shutil.get_terminal_size((140, 24)).columns, 100), markup=False, highlight=False
    )
    for block in scorecard_blocks(scores):
        if isinstance(block, Prose):
            console.print(block.text)
        if not isinstance(block, Table):
            continue
        table = RichTable(title=block.heading or None, caption=block.note or None, title_justify="left")
        for number, name in enumerate(block.header):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in block.rows:
            table.add_row(*row)
        console.print(table)
