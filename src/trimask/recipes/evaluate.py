"""`trimask evaluate`: from a run to its scorecard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trimask import io
from trimask.config import from_dict, to_dict
from trimask.data.selection import QuickstartData
from trimask.data.stream import SpanSlack
from trimask.data.tokens import TokenSource
from trimask.evaluation.continuation import ContinuationScorer
from trimask.evaluation.judges.panel import Panel
from trimask.recipes import pretrained
from trimask.recipes.quickstart import quickstart
from trimask.recipes.scorecard import denoiser_of, score, tokenizers_of
from trimask.recipes.suite import Suite
from trimask.recipes.tokens import cached_tokens
from trimask.sampling.generate import Generator
from trimask.training.run import RunConfig

Report = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Trained:
    """A model and what it was trained on; `train` is None where its tokens were not kept."""

    generator: Generator
    data: QuickstartData
    slack: SpanSlack
    train: dict[str, TokenSource] | None


def evaluate(
    run: str | Path,
    *,
    suite: Suite,
    judges: Panel,
    seed: int = 0,
    harness_tasks: Sequence[str] = (),
    report: Report = lambda message: None,
) -> dict[str, Any]:
    """The scorecard of `run` (a run directory, or `quickstart`).

    Args:
        harness_tasks: tasks of lm-eval (names, or YAML files) to run beside the suite; needs the extra `eval`
            and, for most names, a data set of a hub.

    Raises:
        FileNotFoundError, ValueError: the run, a judge or a task cannot be used; the message says why.
        ImportError: a judge or the tasks need a library that is not installed.
    """
    trained = _load(run)
    result = score(
        trained.generator,
        trained.data,
        suite=suite,
        judges=judges,
        seed=seed,
        train=trained.train,
        slack=trained.slack,
        report=report,
    )
    if harness_tasks:
        report("lm-eval tasks")
        scorer = ContinuationScorer(
            denoiser=denoiser_of(trained.generator),
            text=tokenizers_of(trained.generator).text,
            seed=seed,
            num_masks=suite.num_masks,
            max_length=trained.data.text_window,
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


def _load(run: str | Path) -> _Trained:
    generator = pretrained.load(run)
    config = Path(run) / "config.json"
    recipe = from_dict(RunConfig, io.read_json(config)["run"]) if config.exists() else quickstart()
    data, train = recipe.data, None
    if not isinstance(data, QuickstartData):
        raise ValueError(f"{run} was trained on other data: the suites are of the embedded data")
    index = Path(run) / "tokens" / "train.json"
    if config.exists() and index.exists() and io.read_json(index)["data"] == to_dict(data):
        train = cached_tokens(data, tokenizers_of(generator), "train", Path(run) / "tokens")
    return _Trained(generator=generator, data=data, slack=recipe.slack, train=train)
