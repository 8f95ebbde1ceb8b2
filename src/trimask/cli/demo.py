"""`trimask demo`: the shipped model, a small one trained live, and a report of both."""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

import tyro

from trimask.cli.arguments import MOST_MINUTES, Verb, check_range
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed
from trimask.cli.program import program

_SPACE = 200_000_000  # checkpoints of the small model, samples, the report


@final
@dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """Generate with the shipped model, train `quickstart_mini` live, and write a report of both.

    Ctrl-C ends the training, and the report is written with what is there.
    """

    minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 5.0
    """how long to train (0: not at all); generating before and after it takes a few minutes more"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("demo")
    """folder for the run, the samples and report.html"""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """another seed gives other samples"""
    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        check_range("--minutes", self.minutes, 0, MOST_MINUTES)
        check_writable(self.out, num_bytes=_SPACE)
        say(f"everything goes to {self.out.resolve()}")
        from trimask.demo.demo import run_demo
        from trimask.training.loop import NonFiniteLoss

        try:
            # With --json the demo's own lines leave stdout to the result.
            with contextlib.redirect_stdout(sys.stderr if self.json else sys.stdout), Report() as telling:
                report = run_demo(
                    self.out,
                    minutes=self.minutes,
                    seed=self.seed,
                    program=program(),
                    report=telling,
                )
        except NonFiniteLoss as error:
            raise Failed(f"{error} Try another --seed") from error
        if self.json:
            print_json({"out": str(self.out), "report": str(report)})
        return 0
