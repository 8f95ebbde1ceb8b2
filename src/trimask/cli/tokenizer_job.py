"""The jobs of training tokenizers."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from trimask.cli.console import Report
from trimask.cli.failure import UsageError
from trimask.cli.job import DATA_BYTES, STATE_BYTES, Job
from trimask.cli.program import program
from trimask.config import to_dict

if TYPE_CHECKING:  # these import torch, which takes seconds: wrong arguments must be reported before that
    from trimask.tokenizer_training.kinds import TokenizerRun
    from trimask.tokenizer_training.text import TextTokenizerRun
    from trimask.training.distributed import World
    from trimask.training.loop import OnProgress, TrainResult

_SIGNAL_BYTES = 500_000_000  # decoded training data of a tokenizer; raw sources may take more


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TokenizerJob(Job):
    """Training of an image or speech tokenizer."""

    recipe: str
    config: "TokenizerRun"

    @property
    def num_updates(self) -> int:
        return self.config.num_steps

    @property
    def num_bytes(self) -> int:
        return self.summary()["parameters"]["total"] * STATE_BYTES + _SIGNAL_BYTES

    @property
    def may_change(self) -> Sequence[str]:
        from trimask.tokenizer_training.train import MAY_CHANGE

        return MAY_CHANGE

    @property
    def leftovers(self) -> Sequence[str]:
        from trimask.tokenizer_training.train import LEFTOVERS

        return LEFTOVERS

    def check(self) -> None:
        _check_single_process(self.recipe)

    def summary(self) -> dict[str, Any]:
        from trimask.tokenizer_training.train import rates, training_of

        codec = training_of(self.config).build()
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

    def run(
        self,
        out: Path,
        *,
        resume: bool,
        deadline: float | None,
        world: "World",
        on_progress: "OnProgress | None" = None,
    ) -> "TrainResult":
        from trimask.tokenizer_training.train import train_tokenizer

        with Report() as report:
            return train_tokenizer(
                self.config,
                out,
                recipe=self.recipe,
                resume=resume,
                deadline=deadline,
                report=report,
                on_progress=on_progress,
            )

    def try_it(self, out: Path) -> str:
        from trimask.tokenizer_training.train import weights_file

        weights = weights_file(self.config, out)
        words = ["tokenizers", f"--{weights.stem}", str(weights), "--out", "tokenizers"]
        page = out / "report.html"
        return f"look and listen: {page}; train over it: {program()} {shlex.join(words)}"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TextTokenizerJob(Job):
    """Learning the merges of a text tokenizer; its steps are merges."""

    has_metrics: ClassVar[bool] = False
    recipe: str
    config: "TextTokenizerRun"

    @property
    def num_updates(self) -> int:
        return self.config.num_merges

    @property
    def num_bytes(self) -> int:
        return DATA_BYTES

    @property
    def leftovers(self) -> Sequence[str]:
        from trimask.tokenizer_training.text import LEFTOVERS

        return LEFTOVERS

    def check(self) -> None:
        _check_single_process(self.recipe)

    def summary(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "config": to_dict(self.config), "steps": self.num_updates}

    def lines(self) -> Sequence[str]:
        return [f"units           {self.config.vocabulary_size:,}, {self.num_updates:,} of them merges"]

    def run(
        self,
        out: Path,
        *,
        resume: bool,
        deadline: float | None,
        world: "World",
        on_progress: "OnProgress | None" = None,
    ) -> "TrainResult":
        from trimask.tokenizer_training.text import train_text_tokenizer

        with Report() as report:
            return train_text_tokenizer(self.config, out, recipe=self.recipe, resume=resume, report=report)

    def try_it(self, out: Path) -> str:
        from trimask.io import read_json
        from trimask.tokenizer_training.text import FIGURES, WEIGHTS

        figures = read_json(out / FIGURES)
        own, shipped = figures["bytes_per_token"], figures["bytes_per_token_of_the_shipped_one"]
        part = "unseen" if "unseen" in own else "train"
        words = ["tokenizers", "--text", str(out / WEIGHTS), "--out", "tokenizers"]
        return (
            f"a token holds {own[part]:.2f} bytes of {'unseen' if part == 'unseen' else 'training'} text "
            f"(the shipped tokenizer: {shipped[part]:.2f}); use it: {program()} {shlex.join(words)}"
        )


def _check_single_process(recipe: str) -> None:
    from trimask.training.distributed import num_processes

    if num_processes() > 1:
        raise UsageError(f"{recipe} is a tokenizer, which trains in one process: run it without torchrun")
