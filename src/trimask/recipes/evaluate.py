"""`trimask evaluate`: from a run to its scorecard."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from trimask.data.selection import PreparedData, QuickstartData
from trimask.data.stream import SpanSlack
from trimask.data.tokens import TokenSource
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.judges.panel import Panel
from trimask.recipes import pretrained
from trimask.recipes.claims import Claim, claims
from trimask.recipes.examples import Examples
from trimask.recipes.examples_prepared import PreparedExamples
from trimask.recipes.examples_quickstart import QuickstartExamples
from trimask.recipes.pretrained import run_config
from trimask.recipes.quickstart import quickstart
from trimask.recipes.resume import moved
from trimask.recipes.scorecard import denoiser_of, score, tokenizers_of
from trimask.recipes.sources import check_data
from trimask.recipes.suite import HeldOut, Suite
from trimask.recipes.tokens import kept_tokens
from trimask.sampling.generate import Generator
from trimask.training.checkpoint import CONFIG

logger = logging.getLogger(__name__)

Report = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Trained:
    """A model, what it was trained on, and the bounds that a good one holds, where there are some."""

    generator: Generator
    examples: Examples
    slack: SpanSlack
    bounds: Callable[[Mapping[str, Any]], list[Claim]] | None


def evaluate(
    run: str | Path,
    *,
    suite: Suite,
    judges: Panel,
    seed: int = 0,
    held_out: HeldOut = "validation",
    harness_tasks: Sequence[str] = (),
    data: Sequence[Path] = (),
    report: Report = lambda message: None,
) -> dict[str, Any]:
    """The scorecard of `run` (a run directory, or `quickstart`).

    Args:
        held_out: the split that stands for unseen data.
        data: where the run's prepared data is now, if it has moved.
        harness_tasks: tasks of lm-eval (names, or YAML files) to run beside the suite; needs the extra `eval`
            and, for most names, a data set of a hub.

    Raises:
        FileNotFoundError, ValueError: the run, a judge or a task cannot be used; the message says why.
        ImportError: a judge or the tasks need a library that is not installed.
    """
    trained = _load(run, held_out=held_out, seed=seed, data=data, report=report)
    result = score(
        trained.generator,
        trained.examples,
        suite=suite,
        judges=judges,
        seed=seed,
        slack=trained.slack,
        report=report,
    )
    if trained.bounds is not None:
        result["claims"] = [claim._asdict() for claim in trained.bounds(result)]
    if harness_tasks:
        report("lm-eval tasks")
        scorer = ContinuationScorer(
            denoiser=denoiser_of(trained.generator),
            text=tokenizers_of(trained.generator).text,
            seed=seed,
            num_masks=suite.num_masks,
            text_window=trained.examples.text_window,
        )
        result["harness"] = harness_scores(
            trained.generator, scorer, harness_tasks, limit=suite.num_choices, seed=seed
        )
    return result


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
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

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
    generator = pretrained.load(run, raw_prompts=True)
    tokenizers = tokenizers_of(generator)
    folder = pretrained.run_folder(run)
    config = folder / CONFIG
    recipe = run_config(folder) if config.exists() else quickstart()
    if data and not isinstance(recipe.data, PreparedData):
        raise ValueError(f"{run} was trained on the embedded data: leave --data out")
    if isinstance(recipe.data, PreparedData):
        prepared = moved(recipe.data, data)
        recipe = replace(recipe, data=prepared)
        check_data(prepared, report)
        examples = PreparedExamples(
            recipe,
            tokenizers,
            held_out=held_out,
            max_prompt=generator.lengths.max_prompt,
            seed=seed,
            report=report,
        )
        return _Trained(generator=generator, examples=examples, slack=recipe.slack, bounds=None)
    assert isinstance(recipe.data, QuickstartData), "no run is trained on data that is not there"
    kept = _kept(recipe.data, folder / "tokens") if config.exists() else None
    examples = QuickstartExamples(recipe.data, tokenizers, held_out=held_out, kept=kept, report=report)
    return _Trained(generator=generator, examples=examples, slack=recipe.slack, bounds=claims)


def _kept(data: QuickstartData, folder: Path) -> dict[str, TokenSource] | None:
    """The training tokens that a run has kept; None where they must be made again, in memory."""
    try:
        return kept_tokens(data, "train", folder)
    except (ValueError, FileNotFoundError) as error:
        logger.warning("%s; it is encoded again for this evaluation", error)
        return None
