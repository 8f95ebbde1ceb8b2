"""`trimask evaluate`: from a run to its scorecard."""

import difflib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from trimask.data.selection import QuickstartData
from trimask.data.source import ExampleSource
from trimask.data.stream import SpanSlack
from trimask.errors import UserError
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.judges.languages import whisper_language
from trimask.evaluation.judges.panel import Panel
from trimask.reading import problem_of
from trimask.recipes.quickstart import quickstart
from trimask.runs import load as runs
from trimask.runs.embedded_tokens import check_encoded, load_encoded
from trimask.runs.kinds import kind_of
from trimask.runs.load import load_run_config
from trimask.runs.pretrain import TOKENIZERS, TOKENS
from trimask.sampling.generate import Generator
from trimask.scorecard.claims import Claim, claims
from trimask.scorecard.examples import Examples
from trimask.scorecard.examples_prepared import PreparedExamples
from trimask.scorecard.examples_quickstart import QuickstartExamples
from trimask.scorecard.score import denoiser_of, score, tokenizers_of
from trimask.scorecard.sections import Report, Save, Sections
from trimask.scorecard.suite import HeldOut, Suite
from trimask.tokenizers.bundle import hashes
from trimask.training.run_directory import CONFIG

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Trained:
    """A model, what it was trained on, and the bounds that a good one holds, where there are some."""

    generator: Generator
    examples: Examples
    slack: SpanSlack
    bounds: Callable[[Mapping[str, Any]], list[Claim]] | None


@final
class NamesError(UserError):
    """Judges, tasks or a language that cannot be used: `problems` names each, and what there is."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("; ".join(problems))
        self.problems = list(problems)


def evaluate(
    run: str | Path,
    *,
    suite: Suite,
    judges: Panel,
    language: str | None = None,
    seed: int = 0,
    held_out: HeldOut = "validation",
    harness_tasks: Sequence[str] = (),
    data: Sequence[Path] = (),
    overrides: Mapping[str, str] = MappingProxyType({}),
    report: Report = lambda message: None,
    warn: Report = lambda message: None,
    save: Save = lambda scores: None,
) -> dict[str, Any]:
    """The scorecard of `run` (a run directory, or `quickstart`).

    Args:
        language: that all recordings are in, for the recognizer; else what the data says, or English.
        held_out: the split that stands for unseen data.
        data: where the run's prepared data is now, if it has moved.
        overrides: of how tasks are sampled (`Generator.override`).
        harness_tasks: tasks of lm-eval (names, or YAML files) to run beside the suite; needs the extra `eval`
            and, for most names, a data set of a hub.
        warn: told of a part that fails: it is set aside (`failed`), and the others go on.
        save: given the scores after each part, as far as they are.

    Raises:
        NamesError: a judge, a task or the language cannot be used: told before anything is computed.
        FileNotFoundError, UserError: the run cannot be used; the message says why.
    """
    check_names(judges=judges, language=language, harness_tasks=harness_tasks, report=report)
    trained = _load(run, held_out=held_out, seed=seed, data=data, report=report)
    trained.generator.override(overrides)
    result = score(
        trained.generator,
        trained.examples,
        suite=suite,
        judges=judges,
        language=language,
        seed=seed,
        slack=trained.slack,
        report=report,
        warn=warn,
        save=save,
    )
    sections = Sections(result, save=save, report=report, warn=warn)
    if trained.bounds is not None:
        with sections.part("bounds"):
            result["claims"] = [claim._asdict() for claim in trained.bounds(result)]
    for task in harness_tasks:
        with sections.part(f"lm-eval: {task}"):
            scorer = ContinuationScorer(
                denoiser=denoiser_of(trained.generator),
                text=tokenizers_of(trained.generator).text,
                seed=seed,
                num_masks=suite.num_masks,
                text_window=trained.examples.text_window,
            )
            result.setdefault("harness", {}).update(
                harness_scores(trained.generator, scorer, [task], limit=suite.num_choices, seed=seed)
            )
    return result


def check_names(
    *,
    judges: Panel,
    language: str | None,
    harness_tasks: Sequence[str],
    report: Report = lambda message: None,
) -> None:
    """Raises `NamesError` with all that cannot be used."""
    report("checking the judges and tasks")
    problems = judges.problems() + _unknown_tasks(harness_tasks)
    if language is not None:
        try:
            whisper_language(language)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise NamesError(problems)


def _unknown_tasks(tasks: Sequence[str]) -> list[str]:
    """What is wrong with the names of lm-eval's tasks."""
    if not tasks:
        return []
    try:
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError:
        return ["lm-eval tasks need lm-eval: install trimask[eval]"]
    problems, known = [], None
    for task in tasks:
        if task.endswith((".yaml", ".yml")):
            if (problem := problem_of(task)) is not None:
                problems.append(f"lm-eval task {task} {problem}")
            continue
        known = known or TaskManager()
        if not known.match_tasks([task]):
            close = difflib.get_close_matches(task, known.all_tasks, n=5) or known.all_tasks[:5]
            problems.append(f"lm-eval knows no task {task!r}, but {', '.join(close)} (all: lm-eval ls tasks)")
    return problems


def harness_scores(
    generator: Generator,
    scorer: ContinuationScorer,
    tasks: Sequence[str | dict[str, Any]],
    *,
    limit: int,
    seed: int,
) -> dict[str, Any]:
    """Metrics of lm-eval's `tasks` (names, YAML files or their content; the first `limit` documents): task ->
    metric -> value. Log-likelihoods are bounds; see `HarnessModel`.

    Raises:
        ImportError: lm-eval is not installed.
    """
    try:
        from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]  (an extra)
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  (an extra)

        from trimask.evaluation.harness import HarnessModel
    except ImportError as error:
        raise ImportError("lm-eval tasks need lm-eval: install trimask[eval]") from error
    run: Any = simple_evaluate
    found = run(
        model=HarnessModel(generator, scorer),
        tasks=list(tasks),
        # To list the tasks that lm-eval knows takes a while: only where one is named.
        task_manager=TaskManager(include_defaults=any(isinstance(task, str) for task in tasks)),
        limit=limit,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
        log_samples=False,
        bootstrap_iters=1000,
    )
    assert found is not None  # None on other processes than the first
    return {
        task: {metric: value for metric, value in metrics.items() if isinstance(value, int | float)}
        for task, metrics in found["results"].items()
    }


def _load(run: str | Path, *, held_out: HeldOut, seed: int, data: Sequence[Path], report: Report) -> _Trained:
    generator = runs.load(run, raw_prompts=True)
    tokenizers = tokenizers_of(generator)
    folder = runs.find_run_folder(run)
    config = folder / CONFIG
    recipe = load_run_config(folder) if os.path.lexists(config) else quickstart()
    kind = kind_of(recipe.data)
    if data:
        recipe = replace(recipe, data=kind.moved(data))
        kind = kind_of(recipe.data)
    kind.check(generator.vocabulary, report)
    if kind.embedded is not None:
        kept = _kept(kind.embedded, folder) if os.path.lexists(config) else None
        examples = QuickstartExamples(kind.embedded, tokenizers, held_out=held_out, kept=kept, report=report)
        return _Trained(generator=generator, examples=examples, slack=recipe.slack, bounds=claims)
    if not kind.folders:
        name = type(recipe.data).__name__
        raise UserError(f"{run} was trained on {name}: scorecards are of embedded or prepared data")
    examples = PreparedExamples(
        recipe,
        tokenizers,
        held_out=held_out,
        max_prompt=generator.lengths.max_prompt,
        seed=seed,
        report=report,
    )
    return _Trained(generator=generator, examples=examples, slack=recipe.slack, bounds=None)


def _kept(data: QuickstartData, run: Path) -> Mapping[str, ExampleSource] | None:
    """The training data that a run has kept; None where a part of it is to be encoded again."""
    folder = run / TOKENS
    if not os.path.lexists(folder):
        return None
    try:
        check_encoded(data, hashes(run / TOKENIZERS), folder)
        return load_encoded(folder, "train")
    except (ValueError, FileNotFoundError) as error:
        logger.warning("%s; it is encoded again for this evaluation", error)
        return None
