"""`trimask study fit FILE`: a law of anyone's table of runs."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from trimask.cli.arguments import closest
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError, convert_file_errors
from trimask.errors import UserError

if TYPE_CHECKING:  # these import scipy and matplotlib: wrong arguments must be reported before that
    from trimask.laws.fitting import Fit, Law
    from trimask.studies.findings import Findings

SCALING = "scaling"
DRAWS = 2000
_LOSS, _RUN = "loss", "run"
_PAGE, _JSON = "law.html", "law.json"
_FORM = "--columns n=PARAMETERS,d=TOKENS,loss=LOSS"


@final
@dataclass(frozen=True, kw_only=True)
class TableFit:
    """The arguments of `trimask study fit`.

    Attributes:
        columns: role -> column of the file: the law's inputs, `loss`, and `run`, which groups rows.
        at: points to forecast, each `n=…,d=…`.
        draws: of the bootstrap.
        out: folder for the page and its JSON; None to print alone.
    """

    file: Path
    law: str
    columns: str
    at: Sequence[str]
    draws: int
    out: Path | None
    is_json: bool

    def run(self, overrides: Mapping[str, str]) -> int:
        """Fit, print, and write with `out`. Return 1 if the table does not identify the law."""
        if not self.columns:
            raise UsageError(f"--columns names the law's inputs and the loss: {_FORM}")
        columns = _parse_pairs(self.columns, "--columns")
        if _LOSS not in columns:
            raise UsageError(f"--columns {self.columns} names no loss: {_FORM}")
        labels = {_RUN: columns.pop(_RUN)} if _RUN in columns else {}
        from trimask.laws.catalog import resolve_law

        inputs = [name for name in columns if name != _LOSS]
        if not inputs:
            raise UsageError(f"--columns {self.columns} names no input of the law: {_FORM}")
        law = resolve_law(self.law, inputs, overrides)
        points = [_parse_point(text, law) for text in self.at]
        if self.out is not None:
            check_writable(self.out)
        import numpy as np

        from trimask.laws.fitting import NotIdentified, fit_law
        from trimask.questions.law_findings import describe_fit, describe_projections
        from trimask.studies.findings import Claim, Findings
        from trimask.tables.number_table import read_numbers

        with convert_file_errors():
            table = read_numbers(self.file, columns, labels=labels)
            losses = table.numbers[_LOSS]
            runs = np.unique(table.labels[_RUN], return_inverse=True)[1] if labels else None
            with Report() as report:
                report.expect(f"fitting {self.draws:,} draws of {len(losses):,} rows")
                try:
                    fit = fit_law(law, table.numbers, losses, units=runs, num_draws=self.draws)
                except NotIdentified as error:
                    text = f"the table identifies {law.formula}; {'; '.join(error.reasons)}"
                    empty = Findings(claims=(Claim(text=text, holds=None),), tables=(), pictures={})
                    return self._answer(empty, None, error.reasons, overrides)
                report.expect("fitting otherwise, and leaving rows out")
                findings = describe_fit(fit)
        if points:
            findings = describe_projections(findings, fit, points)
        return self._answer(findings, fit, fit.doubts, overrides)

    def _answer(
        self, findings: "Findings", fit: "Fit | None", reasons: Sequence[str], overrides: Mapping[str, str]
    ) -> int:
        from trimask.io import write_json
        from trimask.studies.findings_page import make_page
        from trimask.studies.report import findings_to_json

        found: dict[str, Any] = {
            "law": self.law,
            "identified": not reasons,
            "reasons": list(reasons),
            "parameters": {name: each.as_json() for name, each in fit.parameters.items()} if fit else {},
            **findings_to_json(findings),
        }
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            page = make_page(
                findings,
                title=f"{self.law.rpartition(':')[2]} law of {self.file.name}",
                lead="Fitted by `trimask study fit`; intervals are 95 %.",
                command=self._command(overrides),
            )
            page.write(self.out / _PAGE)
            write_json(self.out / _JSON, found)
            found["page"] = str(self.out / _PAGE)
        if self.is_json:
            print_json(found)
        else:
            _print(findings)
        if self.out is not None:
            say(f"page: {self.out / _PAGE}, figures: {self.out / _JSON}")
        if reasons:
            say(f"error: not identified: {'; '.join(reasons)}")
        return 1 if reasons else 0

    def _command(self, overrides: Mapping[str, str]) -> str:
        words = ["trimask", "study", "fit", str(self.file), "--law", self.law, "--columns", self.columns]
        for point in self.at:
            words += ["--at", point]
        words += ["--draws", f"{self.draws}"] if self.draws != DRAWS else []
        words += [f"--{name}={value}" for name, value in overrides.items()]
        return shlex.join([*words, "--out", str(self.out)])


def _parse_pairs(text: str, option: str) -> dict[str, str]:
    """Parse `a=x,b=y`. A value may have commas, as names of columns do. UsageError if it is something
    else.
    """
    pairs: dict[str, str] = {}
    for part in re.split(r",(?=[^,=]*=)", text):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not (name and equals and value):
            raise UsageError(f"{option} {text}: {part!r} is not NAME=VALUE: {_FORM}")
        if name in pairs:
            raise UsageError(f"{option} {text}: {name} is given twice: give it once")
        pairs[name] = value
    return pairs


def _parse_point(text: str, law: "Law") -> dict[str, float]:
    """Parse a point of the law's inputs. UsageError if one is missing, unknown or no number, or if the law
    has no loss there.
    """
    import numpy as np

    inputs = law.inputs
    point: dict[str, float] = {}
    for name, value in _parse_pairs(text, "--at").items():
        if name not in inputs:
            fix = " or ".join(closest(name, inputs)) or ", ".join(inputs)
            raise UsageError(f"--at {text}: the law has no {name}: give {fix}")
        try:
            point[name] = float(value)
        except ValueError:
            raise UsageError(f"--at {text}: {value!r} is not a number") from None
        if not 0 <= point[name] < float("inf"):
            raise UsageError(f"--at {text}: {name} must be finite and not negative")
    missing = [name for name in inputs if name not in point]
    if missing:
        raise UsageError(f"--at {text}: give {missing[0]} too")
    try:
        law.check_inputs({name: np.array([value]) for name, value in point.items()})
    except UserError as error:
        raise UsageError(f"--at {text}: {error}") from None
    return point


def _print(findings: "Findings") -> None:
    from trimask.studies.report import format_claim

    for claim in findings.claims:
        print(format_claim(claim))
    for table in findings.tables:
        rows = [table.header, *table.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
        print(f"\n{table.title}")
        for row in rows:
            print(
                "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            )
    for note in findings.notes:
        print(f"\n{note}")
