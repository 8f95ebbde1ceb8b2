"""`trimask lm-eval`: the command line of lm-eval, which knows our models."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import tyro

from trimask.cli.arguments import Verb
from trimask.cli.console import say

_BOUNDS = (
    "log-likelihoods of a masked diffusion model are bounds (-NELBO): perplexities are upper bounds, and not "
    "to be compared with an autoregressive model's"
)


@final
@dataclass(frozen=True, kw_only=True)
class LmEval(Verb):
    """Run lm-eval, which then has the model `trimask`: all arguments are its own, and go to it unchanged.

    `--model trimask --model_args run=RUN` names a run, and after commas preset=NAME, num_masks=N (masks per
    bound; 32) and seed=S. `trimask lm-eval run --help` lists the arguments. Log-likelihoods are bounds.
    """

    takes_all_words: ClassVar[bool] = True

    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ARGUMENT")] = ()
    """of lm-eval, such as --model trimask --model_args run=quickstart --tasks lambada_openai"""

    def run(self, overrides: Mapping[str, str]) -> int:
        try:
            from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]  (an extra)

            from trimask.scorecard.lm_eval_model import NAME, register
        except ImportError as error:
            raise ImportError("lm-eval is not installed: pip install trimask[eval]") from error
        register()
        if NAME in self.words:
            say(_BOUNDS)
        before, sys.argv = sys.argv, ["trimask lm-eval", *self.words]  # it reads them there
        try:
            cli_evaluate()
        finally:
            sys.argv = before
        return 0
