"""Load a run and compute its scorecard, as `trimask evaluate` does."""

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
from trimask.generation.generate import Generator
from trimask.reading import find_problem
from trimask.runs import load as runs
from trimask.runs.embedded_tokens import check_encoded, load_encoded
from trimask.runs.hub import fetch, is_hub_name
from trimask.runs.kinds import kind_of
from trimask.runs.pretrain import TOKENIZERS, TOKENS
from trimask.scorecard.claims import Claim, check_claims
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
class TrainedModel:
    """A trained model, examples of its data, and a function that checks bounds on its scores, if any."""

    generator: Generator
    examples: Examples
    slack: SpanSlack
    bounds: Callable[[Mapping[str, Any]], list[Claim]] | None


@final
class NamesError(UserError):
    """Judges, tasks or a language cannot be used; `problems` lists each, with the valid choices."""

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
    preset: str | None = None,
    overrides: Mapping[str, str] = MappingProxyType({}),
    report: Report = lambda message: None,
    warn: Report = lambda message: None,
    save: Save = lambda scores: None,
) -> dict[str, Any]:
    """Compute the scorecard of `run` (a run directory, a model on the hub, or `quickstart`).

    Args:
        language: language of all recordings, for the recognizer; by default that of the data, or English.
        held_out: the split used as unseen data.
        data: where the run's prepared data is now, if it has moved.
        preset: sampler settings in place of the run's own (`trimask.load`).
        overrides: changes to the samplers of tasks (`Generator.override`).
        harness_tasks: lm-eval tasks (names, or YAML files) to run besides the suite; needs the extra `eval`
            and, for most names, a data set from a hub.
        warn: called with a message for each part that fails; failed parts are listed under `failed`, and the
            others continue.
        save: called after each part with the scores so far.

    Returns:
        The scorecard as JSON values.

    Raises:
        NamesError: a judge, a task or the language cannot be used; raised before anything is computed.
        FileNotFoundError, UserError: the run cannot be used; the message says why.
    """
    check_names(judges=judges, language=language, harness_tasks=harness_tasks, report=report)
    trained = load_model(run, held_out=held_out, seed=seed, data=data, preset=preset, report=report)
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
                run_harness(trained.generator, scorer, [task], limit=suite.num_choices, seed=seed)
            )
    return result


def check_names(
    *,
    judges: Panel,
    language: str | None,
    harness_tasks: Sequence[str],
    report: Report = lambda message: None,
) -> None:
    """Raise `NamesError` with all judges, tasks and languages that cannot be used."""
    report("checking the judges and tasks")
    problems = judges.problems() + _find_unknown_tasks(harness_tasks)
    if language is not None:
        try:
            whisper_language(language)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise NamesError(problems)


def _find_unknown_tasks(tasks: Sequence[str]) -> list[str]:
    """List what is wrong with the names of lm-eval tasks."""
    if not tasks:
        return []
    try:
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError:
        return ["lm-eval tasks need lm-eval: install trimask[eval]"]
    problems, known = [], None
    for task in tasks:
        if task.endswith((".yaml", ".yml")):
            if (problem := find_problem(task)) is not None:
                problems.append(f"lm-eval task {task} {problem}")
            continue
        known = known or TaskManager()
        if not known.match_tasks([task]):
            close = difflib.get_close_matches(task, known.all_tasks, n=5) or known.all_tasks[:5]
            problems.append(
                f"lm-eval has no task {task!r}: did you mean {', '.join(close)}? (all: lm-eval ls tasks)"
            )
    return problems


def run_harness(
    generator: Generator,
    scorer: ContinuationScorer,
    tasks: Sequence[str | dict[str, Any]],
    *,
    limit: int,
    seed: int,
) -> dict[str, Any]:
    """Run lm-eval tasks. Log-likelihoods are bounds; see `HarnessModel`.

    Args:
        tasks: names, YAML files or their content.
        limit: number of documents of each task.

    Returns:
        Task -> metric -> value.

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
        # Listing all lm-eval tasks is slow: do it only if a task is given by name.
        task_manager=TaskManager(include_defaults=any(isinstance(task, str) for task in tasks)),
        limit=limit,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
        log_samples=False,
        bootstrap_iters=1000,
    )
    assert found is not None  # None only on processes other than the first
    return {
        task: {metric: value for metric, value in metrics.items() if isinstance(value, int | float)}
        for task, metrics in found["results"].items()
    }


def load_model(
    run: str | Path,
    *,
    held_out: HeldOut,
    seed: int,
    data: Sequence[Path] = (),
    preset: str | None = None,
    report: Report = lambda message: None,
) -> TrainedModel:
    """Load a run and the examples of its data; the arguments are those of `evaluate`."""
    generator = runs.load(run, preset=preset, raw_prompts=True)
    tokenizers = tokenizers_of(generator)
    folder = fetch(str(run)) if is_hub_name(run) else runs.find_run_folder(run)
    config = folder / CONFIG
    recipe = runs.load_config_of(folder if is_hub_name(run) else run)
    kind = kind_of(recipe.data)
    if data:
        recipe = replace(recipe, data=kind.moved(data))
        kind = kind_of(recipe.data)
    kind.check(generator.vocabulary, report)
    if kind.embedded is not None:
        kept = _load_kept(kind.embedded, folder) if os.path.lexists(config) else None
        examples = QuickstartExamples(kind.embedded, tokenizers, held_out=held_out, kept=kept, report=report)
        return TrainedModel(generator=generator, examples=examples, slack=recipe.slack, bounds=check_claims)
    if not kind.folders:
        name = type(recipe.data).__name__
        raise UserError(f"{run} was trained on {name}: only runs on embedded or prepared data can be scored")
    examples = PreparedExamples(
        recipe,
        tokenizers,
        held_out=held_out,
        max_prompt=generator.lengths.max_prompt,
        seed=seed,
        report=report,
    )
    return TrainedModel(generator=generator, examples=examples, slack=recipe.slack, bounds=None)


def _load_kept(data: QuickstartData, run: Path) -> Mapping[str, ExampleSource] | None:
    """Load the encoded training data that a run has kept; None if it must be encoded again."""
    folder = run / TOKENS
    if not os.path.lexists(folder):
        return None
    try:
        check_encoded(data, hashes(run / TOKENIZERS), folder)
        return load_encoded(folder, "train")
    except (ValueError, FileNotFoundError) as error:
        logger.warning("%s; it is encoded again for this evaluation", error)
        return None
