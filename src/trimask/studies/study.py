"""Studies of training, and the run that ours vary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trimask.data.mixture import Component, MixtureConfig
from trimask.data.selection import QuickstartData
from trimask.data.source_names import EMOJI, SPEECHES, SPOKEN
from trimask.errors import UserError
from trimask.model.denoiser import DenoiserConfig
from trimask.model.flops import block_parameters
from trimask.model.parametrization import CompletedP
from trimask.recipes.quickstart import quickstart_short
from trimask.runs.prepared import with_prepared
from trimask.studies.question import Question
from trimask.studies.tokens import load_sources, load_tokenizers
from trimask.studies.trial import Trial
from trimask.training.corruption import ObjectiveConfig
from trimask.training.lr_schedule import WarmupCosine
from trimask.training.optimizers import AdamWConfig
from trimask.training.reduction import TokenMean
from trimask.training.run import RunConfig

ALL = "all"
LOSSES = (ALL, "text", "image", "speech")
"""Held-out NELBO of all target tokens together, and of each modality, in bits per token."""
# Cost of a position besides the blocks' weights, in parameters [D].
_OVERHEAD = 300_000


class Study(Question[Trial]):
    """A question about training: all trials vary a run."""

    __slots__ = ()

    base: RunConfig
    """The run that all trials vary."""

    def check(self) -> None:
        check_seeds("seeds", getattr(self, "seeds", (0,)))  # as a study calls them that has some

    def with_data(self, folders: Sequence[Path]) -> "Study":
        return replace(self, base=with_prepared(self.base, folders))

    def make_tokens(self, tokens: Path, report: Callable[[str], None]) -> None:
        tokenizers = load_tokenizers(self.base)
        for split in ("train", "validation"):
            load_sources(self.base, tokenizers, split, tokens, report=report)

    def estimate_cost(self, trial: Trial) -> int:
        """Estimate the relative time of a trial: sequences times weights, plus overhead."""
        return trial.config.horizon * (block_parameters(trial.config.model) + _OVERHEAD)

    def describe_work(self, trial: Trial) -> Mapping[str, int]:
        return {"sequences": trial.config.horizon, "updates": trial.config.num_updates}


def check_seeds(name: str, seeds: Sequence[int]) -> None:
    """Raise UserError if the field `name` holds no seed, or one twice."""
    if not seeds:
        raise UserError(f"{name}: the study has none: give at least one, and two for intervals")
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise UserError(f"{name}: {seed} is given twice: give each once")


def small_run(*, learning_rate: float) -> RunConfig:
    """Return the run that the studies vary: one task per modality on all of the embedded data, with equal
    shares of target tokens for pictures and speech, and half as much text. The loss is a mean over target
    tokens, like `ALL`: the minimized quantity is the compared one.

    No gradient clipping: it follows no rule, and would change with the batch. Decay and β₂ are [D].
    """
    base = quickstart_short()
    return replace(
        base,
        model=DenoiserConfig(
            width=64,
            depth=3,
            num_heads=2,
            parametrization=CompletedP(base_width=64, base_depth=3, base_num_heads=2),
        ),
        data=QuickstartData(),
        mixture=MixtureConfig(
            components=(
                Component(source=EMOJI, task="text_to_image", weight=0.4),
                Component(source=SPOKEN, task="text_to_speech", weight=0.4),
                Component(source=SPEECHES, task="text", weight=0.2),
            )
        ),
        optimizer=AdamWConfig(learning_rate=learning_rate, weight_decay=0.1, beta2=0.98, clip_norm=None),
        objective=ObjectiveConfig(reduction=TokenMean()),
        lr_schedule=WarmupCosine(warmup_fraction=0.1, final_fraction=0.02),
        logical_batch=16,
        num_steps=1000,
    )
