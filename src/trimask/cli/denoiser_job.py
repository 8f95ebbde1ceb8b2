"""The job of pretraining a denoiser."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from trimask.cli.console import Report
from trimask.cli.failure import UsageError
from trimask.cli.job import DATA_BYTES, STATE_BYTES, Job
from trimask.cli.program import program
from trimask.cli.recipe import count_denoiser_parameters
from trimask.cli.sample_inputs import option_of
from trimask.config import to_dict

if TYPE_CHECKING:  # these import torch, which takes seconds: wrong arguments must be reported before that
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.compute import ComputeConfig
    from trimask.training.distributed import World
    from trimask.training.loop import OnProgress, TrainResult
    from trimask.training.run import RunConfig

_SHORT = 300.0  # seconds: as long as the demo trains
_AFTER_FIVE_MINUTES = {
    "text_to_image": "pictures have the colours of their captions",
    "text_to_speech": "speech has the rhythm of its sentence",
    "text": "text has the commonest words",
}
_LEARNED = (
    "After about five minutes of quickstart_mini on two cores, {}; samples without a prompt are still nearly "
    "empty."
)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiserJob(Job):
    """Pretraining over the tokenizers of `folder`, starting from `weights` if given."""

    recipe: str
    config: "RunConfig"
    folder: Path
    tokenizers: "Tokenizers"
    weights: Path | None

    @property
    def num_updates(self) -> int:
        return self.config.num_updates

    @property
    def num_bytes(self) -> int:
        copied = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        return (
            count_denoiser_parameters(self.config, self.tokenizers).total * STATE_BYTES + DATA_BYTES + copied
        )

    @property
    def compute(self) -> "ComputeConfig":
        return self.config.compute

    @property
    def may_change(self) -> Sequence[str]:
        from trimask.runs.resume import MAY_CHANGE

        return MAY_CHANGE

    @property
    def leftovers(self) -> Sequence[str]:
        from trimask.runs.pretrain import LEFTOVERS

        return LEFTOVERS

    def check(self) -> None:
        from trimask.runs.build import build_vocabulary
        from trimask.runs.kinds import kind_of

        vocabulary = build_vocabulary(self.config, self.tokenizers)
        kind_of(self.config.data).check_run(self.config, vocabulary)
        if self.weights is not None and not self.weights.is_file():
            raise UsageError(
                f"--weights {self.weights} is not a file: `trimask export RUN --out FILE` writes one"
            )

    def summary(self) -> dict[str, Any]:
        return _summary(self.recipe, self.config, self.tokenizers)

    def lines(self) -> Sequence[str]:
        return _lines(self.config, self.tokenizers)

    def run(
        self,
        out: Path,
        *,
        resume: bool,
        deadline: float | None,
        world: "World",
        on_progress: "OnProgress | None" = None,
    ) -> "TrainResult":
        from trimask.runs.pretrain import pretrain

        with Report() as report:
            if world.is_main:
                report.expect("reading the data and building the model")
            return pretrain(
                self.config,
                out,
                recipe=self.recipe,
                tokenizer_folder=self.folder,
                weights=self.weights,
                resume=resume,
                deadline=deadline,
                report=report if world.is_main else lambda message: None,
                on_progress=on_progress,
                world=world,
            )

    def caution(self, seconds: float) -> str | None:
        if seconds >= _SHORT:
            return None
        amount, unit = (f"{seconds:.0f}", "second") if seconds < 60 else (f"{seconds / 60:.1f}", "minute")
        training = (
            f"{amount} {unit} of training only shows"
            if amount in ("1", "1.0")
            else (f"{amount} {unit}s of training only show")
        )
        tasks = {component.task for component in self.config.mixture.components}
        shown = [what for name, what in _AFTER_FIVE_MINUTES.items() if name in tasks]
        learned = f" {_LEARNED.format('; '.join(shown))}" if shown else ""
        return f"{training} that a run learns.{learned} --minutes or --num-steps train longer"

    def try_it(self, out: Path) -> str:
        from trimask.runs.own_prompt import suggest_prompt

        task, prompt = suggest_prompt(self.config, self.tokenizers)
        words = ["sample", str(out), "--task", task.name]
        if prompt is not None:
            words += [f"--prompt={prompt}"] if prompt.startswith("-") else ["--prompt", prompt]
        for modality in task.condition:
            if modality != "text":
                words += option_of(modality, "FILE")
        return f"try it: {program()} {shlex.join(words)} --out samples"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class StatedJob(Job):
    """Pretraining on `StatedData`, statistics without examples: it can be shown and planned, not run."""

    recipe: str
    config: "RunConfig"

    @property
    def num_updates(self) -> int:
        return self.config.num_updates

    @property
    def num_bytes(self) -> int:
        return self.summary()["parameters"]["total"] * STATE_BYTES + DATA_BYTES

    def check(self) -> None:
        window = self.config.data.text_window
        raise UsageError(
            f"{self.recipe} states the sizes of its data but has none. Assemble tokenizers "
            "(trimask tokenizers --text FILE --image NAME --image-size 256 --speech NAME --out DIR), prepare "
            f"data with them (trimask prepare SOURCE --tokenizers DIR --text-window {window} --max-seconds "
            "15 --out DATA), and give it with --data DATA"
        )

    def summary(self) -> dict[str, Any]:
        return _summary(self.recipe, self.config, None)

    def lines(self) -> Sequence[str]:
        return _lines(self.config, None)

    def run(
        self,
        out: Path,
        *,
        resume: bool,
        deadline: float | None,
        world: "World",
        on_progress: "OnProgress | None" = None,
    ) -> "TrainResult":
        raise AssertionError("`check` comes first")

    def try_it(self, out: Path) -> str:
        raise AssertionError("`check` comes first")


def _summary(recipe: str, config: "RunConfig", tokenizers: "Tokenizers | None") -> dict[str, Any]:
    from trimask.planning.describe import description

    return {"recipe": recipe, "config": to_dict(config), **description(config, tokenizers).to_json()}


def _lines(config: "RunConfig", tokenizers: "Tokenizers | None") -> Sequence[str]:
    from trimask.planning.describe import description

    return str(description(config, tokenizers)).splitlines()
