"""`trimask demo`: generate with the shipped model, train a small one, and write a report of both."""

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

    Ctrl-C ends the training early, and the report is written with the results so far.
    """

    minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 5.0
    """minutes of training (0: none); generating before and after it takes a few minutes more"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("demo")
    """folder for the run, the samples and report.html"""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """another seed gives other samples"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        check_range("--minutes", self.minutes, 0, MOST_MINUTES)
        check_writable(self.out, num_bytes=_SPACE)
        say(f"all files are written to {self.out.resolve()}")
        from trimask.demo.demo import run_demo
        from trimask.training.loop import NonFiniteLoss

        try:
            # With --json, the demo's own lines go to stderr: stdout is for the JSON object.
            with contextlib.redirect_stdout(sys.stderr if self.json else sys.stdout), Report() as progress:
                report = run_demo(
                    self.out,
                    minutes=self.minutes,
                    seed=self.seed,
                    program=program(),
                    report=progress,
                )
        except NonFiniteLoss as error:
            raise Failed(f"{error} Try another --seed") from error
        if self.json:
            print_json({"out": str(self.out), "report": str(report)})
        return 0
