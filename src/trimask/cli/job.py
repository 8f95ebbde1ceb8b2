"""A recipe with its fields, ready to be shown or run: of a denoiser, or of a tokenizer."""

import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from trimask.cli.console import Report
from trimask.cli.failure import UsageError, reading_files
from trimask.cli.program import program
from trimask.cli.resolved import lines, load_tokenizers, parameters, resolved, summary, tokenizer_folder
from trimask.config import to_dict
from trimask.recipes.catalog import RECIPES

if TYPE_CHECKING:  # they take torch, and wrong arguments should be told at once
    from trimask.recipes.text_tokenizer import TextTokenizerRun
    from trimask.recipes.tokenizer_training import TokenizerRun
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.compute import ComputeConfig
    from trimask.training.distributed import World
    from trimask.training.loop import TrainResult
    from trimask.training.run import RunConfig

# A parameter takes 12 bytes (weight, two moments) in two checkpoints and one being written.
_STATE_BYTES = 3 * 12
_DATA_BYTES = 100_000_000  # tokenized data, metrics
_SHORT = 300.0  # seconds: what the demo trains
_SIGNAL_BYTES = 500_000_000  # decoded data of a tokenizer; raw sources may take more


class Job(ABC):
    """What `show` and `train` need of a recipe."""

    recipe: str
    config: Any

    @property
    @abstractmethod
    def num_updates(self) -> int:
        """Updates of the whole run."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Space that the run will take."""

    @property
    def may_change(self) -> Sequence[str]:
        """Fields that a resumed run may have otherwise than its start."""
        return ()

    @property
    def leftovers(self) -> Sequence[str]:
        """What the run writes before it computes anything."""
        return ()

    @abstractmethod
    def check(self) -> None:
        """ValueError if it can be shown, but not run; with the mend."""

    @property
    def compute(self) -> "ComputeConfig":
        """How its updates are computed."""
        from trimask.training.compute import ComputeConfig

        return ComputeConfig()

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The resolved configuration, size and cost, as JSON."""

    @abstractmethod
    def lines(self) -> Sequence[str]:
        """The figures of `summary`, for reading."""

    @abstractmethod
    def run(self, out: Path, *, resume: bool, deadline: float | None, world: "World") -> "TrainResult":
        """Run it in the directory `out`; all processes of `world` call this."""

    def caution(self, seconds: float) -> str | None:
        """What a run that trained for so long cannot show, if anything."""
        return None

    @abstractmethod
    def try_it(self, out: Path) -> str:
        """What to do with the finished run."""


def job(
    recipe: str,
    overrides: Mapping[str, str],
    *,
    data: Sequence[Path] = (),
    tokenizers: Path | None = None,
    weights: Path | None = None,
) -> Job:
    """The job of `recipe` with `overrides`.

    Raises:
        UsageError, ConfigError: an unknown recipe or field, or a value that does not fit; with the mend.
        Failed: data or tokenizers that cannot be read.
    """
    config = resolved(recipe, overrides, data)
    from trimask.data.selection import StatedData
    from trimask.recipes.text_tokenizer import TextTokenizerRun
    from trimask.training.run import RunConfig

    if not isinstance(config, RunConfig):
        if tokenizers is not None:
            raise UsageError(f"--tokenizers is for a model, and {recipe} is a tokenizer: leave it out")
        if weights is not None:
            raise UsageError(f"--weights is for a model, and {recipe} is a tokenizer: leave it out")
        if isinstance(config, TextTokenizerRun):
            return TextTokenizerJob(recipe=recipe, config=config)
        return TokenizerJob(recipe=recipe, config=config)
    if isinstance(config.data, StatedData):
        if tokenizers is not None:
            raise UsageError(
                f"{recipe} states its tokenizers' geometry (--data.geometry.text_size N, …): leave out "
                "--tokenizers, or give data that was prepared over them with --data DIR"
            )
        return StatedJob(recipe=recipe, config=config)
    folder = tokenizer_folder(tokenizers, data)
    return DenoiserJob(
        recipe=recipe,
        config=config,
        folder=folder,
        tokenizers=load_tokenizers(tokenizers, data),
        weights=weights,
    )


def job_of(
    name: str, overrides: Mapping[str, str], *, data: Sequence[Path] = (), tokenizers: Path | None = None
) -> Job:
    """The job of a recipe, or that which a run directory or an exported file comes from, with `overrides`.

    A recipe's name is the recipe, whatever lies beside. Raises as `job` and `resumed_job`.
    """
    path = Path(name)
    if name in RECIPES or not path.exists():
        return job(name, overrides, data=data, tokenizers=tokenizers)
    if path.is_dir():
        found = resumed_job(path, overrides, data=data, tokenizers=tokenizers)
        if found is None:
            raise UsageError(f"{path} is no run directory: give one that `trimask train` made, or a recipe")
        return found
    from trimask import io
    from trimask.config import override
    from trimask.data.selection import PreparedData
    from trimask.model.weights import KIND
    from trimask.recipes.exported import config_of, tokenizers_for_file
    from trimask.recipes.resume import moved
    from trimask.tokenizers.bundle import Tokenizers

    with reading_files():
        facts = io.load_tensors(path, kind=KIND).metadata
        config = config_of(facts, path)
        if isinstance(config.data, PreparedData):
            config = replace(config, data=moved(config.data, data))
        folder = tokenizers_for_file(path, facts, tokenizers)
        loaded = Tokenizers.load(folder)
    config = override(config, overrides)
    recipe = facts.get("recipe", path.name)
    return DenoiserJob(recipe=recipe, config=config, folder=folder, tokenizers=loaded, weights=path)


def resumed_job(
    out: Path,
    overrides: Mapping[str, str],
    *,
    recipe: str | None = None,
    data: Sequence[Path] = (),
    tokenizers: Path | None = None,
    weights: Path | None = None,
) -> Job | None:
    """The job of the run in `out`: its own configuration, with `overrides`. None where no run has begun.

    Raises:
        UsageError, ConfigError: another recipe, a field that does not exist, data that are not the run's.
        Failed: the directory is damaged.
    """
    from trimask.recipes.resume import begun, check_horizon, resumed, tokenizers_for
    from trimask.recipes.text_tokenizer import TextTokenizerRun
    from trimask.tokenizers.bundle import Tokenizers
    from trimask.training.run import RunConfig

    with reading_files():
        start = begun(out)
    if start is None:
        return None
    if recipe not in (None, start.recipe):
        raise UsageError(
            f"{out} is a run of {start.recipe}, not of {recipe}: leave the recipe out, or choose another "
            "--out"
        )
    config = resumed(start, overrides, data)
    if not isinstance(config, RunConfig):
        for name, value in (("tokenizers", tokenizers), ("weights", weights)):
            if value is not None:
                raise UsageError(f"--{name} is for a model, and {start.recipe} is a tokenizer: leave it out")
        if isinstance(config, TextTokenizerRun):
            return TextTokenizerJob(recipe=start.recipe, config=config)
        return TokenizerJob(recipe=start.recipe, config=config)
    check_horizon(start, config)
    with reading_files():
        folder = tokenizers_for(start, out) if tokenizers is None else tokenizer_folder(tokenizers)
        loaded = Tokenizers.load(folder)
    return DenoiserJob(recipe=start.recipe, config=config, folder=folder, tokenizers=loaded, weights=weights)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiserJob(Job):
    """Pretraining over the tokenizers of `folder`, from `weights` if there are any."""

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
        return parameters(self.config, self.tokenizers).total * _STATE_BYTES + _DATA_BYTES + copied

    @property
    def compute(self) -> "ComputeConfig":
        return self.config.compute

    @property
    def may_change(self) -> Sequence[str]:
        from trimask.recipes.resume import MAY_CHANGE

        return MAY_CHANGE

    @property
    def leftovers(self) -> Sequence[str]:
        from trimask.recipes.pretrain import LEFTOVERS

        return LEFTOVERS

    def check(self) -> None:
        from trimask.recipes.sources import check_rows

        check_rows(self.config, self.tokenizers)
        if self.weights is not None and not self.weights.is_file():
            raise UsageError(
                f"--weights {self.weights} is no file: `trimask export RUN --out FILE` writes one"
            )

    def summary(self) -> dict[str, Any]:
        return summary(self.recipe, self.config, self.tokenizers)

    def lines(self) -> Sequence[str]:
        return list(lines(self.summary()))

    def run(self, out: Path, *, resume: bool, deadline: float | None, world: "World") -> "TrainResult":
        from trimask.recipes.pretrain import pretrain

        with Report() as report:
            return pretrain(
                self.config,
                out,
                recipe=self.recipe,
                tokenizer_folder=self.folder,
                weights=self.weights,
                resume=resume,
                deadline=deadline,
                report=report if world.is_main else lambda message: None,
                world=world,
            )

    def caution(self, seconds: float) -> str | None:
        if seconds >= _SHORT:
            return None
        return (
            f"{seconds / 60:.1f} minutes of training show that a run learns, and little more: of "
            "quickstart_mini on two cores, pictures have the colours of their captions after about five "
            "minutes, and samples without a prompt stay nearly empty for longer (--minutes, --num-steps)"
        )

    def try_it(self, out: Path) -> str:
        run = shlex.quote(str(out))
        tasks = [component.task.value for component in self.config.mixture.components]
        shown = next((task for task in ("text_to_image", "text_to_speech") if task in tasks), "text")
        return f'try it: {program()} sample {run} --task {shown} --prompt "strawberry" --out samples'


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class StatedJob(Job):
    """Pretraining on data that is stated and not there: it can be shown and planned, not run."""

    recipe: str
    config: "RunConfig"

    @property
    def num_updates(self) -> int:
        return self.config.num_updates

    @property
    def num_bytes(self) -> int:
        return self.summary()["parameters"]["total"] * _STATE_BYTES + _DATA_BYTES

    def check(self) -> None:
        window = self.config.data.text_window
        raise UsageError(
            f"the data of {self.recipe} is stated, not there. Assemble tokenizers (trimask tokenizers --text "
            "FILE --image NAME --image-size 256 --speech NAME --out DIR), prepare data over them (trimask "
            f"prepare SOURCE --tokenizers DIR --text-window {window} --max-seconds 15 --out DATA), and give "
            "it with --data DATA"
        )

    def summary(self) -> dict[str, Any]:
        return summary(self.recipe, self.config, None)

    def lines(self) -> Sequence[str]:
        return list(lines(self.summary()))

    def run(self, out: Path, *, resume: bool, deadline: float | None, world: "World") -> "TrainResult":
        raise AssertionError("`check` comes first")

    def try_it(self, out: Path) -> str:
        raise AssertionError("`check` comes first")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizerJob(Job):
    """Training of a tokenizer on signals."""

    recipe: str
    config: "TokenizerRun"

    @property
    def num_updates(self) -> int:
        return self.config.num_steps

    @property
    def num_bytes(self) -> int:
        return self.summary()["parameters"]["total"] * _STATE_BYTES + _SIGNAL_BYTES

    @property
    def may_change(self) -> Sequence[str]:
        from trimask.recipes.resume import TOKENIZER_MAY_CHANGE

        return TOKENIZER_MAY_CHANGE

    @property
    def leftovers(self) -> Sequence[str]:
        from trimask.recipes.train_tokenizer import LEFTOVERS

        return LEFTOVERS

    def check(self) -> None:
        _check_single_process(self.recipe)

    def summary(self) -> dict[str, Any]:
        from trimask.recipes.train_tokenizer import rates, training_of

        codec = training_of(self.config).untrained()
        return {
            "recipe": self.recipe,
            "config": to_dict(self.config),
            "parameters": {"total": sum(tensor.numel() for tensor in codec.parameters())},
            "codes": rates(codec),
            "steps": self.config.num_steps,
        }

    def lines(self) -> Sequence[str]:
        described = self.summary()
        codes = described["codes"]
        per, each = ("image", "image") if "codes_per_image" in codes else ("second", "s")
        rate, bits = codes[f"codes_per_{per}"], codes[f"bits_per_{per}"]
        return [
            f"parameters      {described['parameters']['total']:,}",
            f"codes           {rate:,g} a {per}, {codes['codebook_size']:,} values each "
            f"({math.log2(codes['codebook_size']):.3g} bits): {bits:,.0f} bits/{each}",
            f"steps           {described['steps']:,}",
        ]

    def run(self, out: Path, *, resume: bool, deadline: float | None, world: "World") -> "TrainResult":
        from trimask.recipes.train_tokenizer import train_tokenizer

        with Report() as report:
            return train_tokenizer(
                self.config, out, recipe=self.recipe, resume=resume, deadline=deadline, report=report
            )

    def try_it(self, out: Path) -> str:
        from trimask.recipes.train_tokenizer import weights_file

        weights = weights_file(self.config, out)
        words = ["tokenizers", f"--{weights.stem}", str(weights), "--out", "tokenizers"]
        page = out / "report.html"
        return f"look and listen: {page}; train over it: {program()} {shlex.join(words)}"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TextTokenizerJob(Job):
    """Learning the merges of a text tokenizer; its steps are merges."""

    recipe: str
    config: "TextTokenizerRun"

    @property
    def num_updates(self) -> int:
        return self.config.num_merges

    @property
    def num_bytes(self) -> int:
        return _DATA_BYTES

    @property
    def leftovers(self) -> Sequence[str]:
        from trimask.recipes.text_tokenizer import LEFTOVERS

        return LEFTOVERS

    def check(self) -> None:
        _check_single_process(self.recipe)

    def summary(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "config": to_dict(self.config), "steps": self.num_updates}

    def lines(self) -> Sequence[str]:
        return [f"units           {self.config.vocabulary_size:,}, {self.num_updates:,} of them merges"]

    def run(self, out: Path, *, resume: bool, deadline: float | None, world: "World") -> "TrainResult":
        from trimask.recipes.text_tokenizer import train_text_tokenizer

        with Report() as report:
            return train_text_tokenizer(self.config, out, recipe=self.recipe, resume=resume, report=report)

    def try_it(self, out: Path) -> str:
        from trimask.io import read_json
        from trimask.recipes.text_tokenizer import FIGURES, WEIGHTS

        figures = read_json(out / FIGURES)
        own, shipped = figures["bytes_per_token"], figures["bytes_per_token_of_the_shipped_one"]
        part = "unseen" if "unseen" in own else "train"
        words = ["tokenizers", "--text", str(out / WEIGHTS), "--out", "tokenizers"]
        return (
            f"a token holds {own[part]:.2f} bytes of {'unseen' if part == 'unseen' else 'training'} text "
            f"(the one that ships: {shipped[part]:.2f}); take it up: {program()} {shlex.join(words)}"
        )


def _check_single_process(recipe: str) -> None:
    from trimask.training.distributed import num_processes

    if num_processes() > 1:
        raise UsageError(f"{recipe} is a tokenizer, which trains in one process: leave out torchrun")
