"""`trimask data show`: the embedded data, as a person would look at it first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

import tyro

from trimask.cli.arguments import Verb, choose
from trimask.cli.console import print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError, reading_files


@final
@dataclass(frozen=True, kw_only=True)
class Data(Verb):
    """Look at the embedded data: `trimask data show --out FILE.html` writes pictures, players, texts and
    counts into one page.
    """

    action: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="show")]
    """what to do: show"""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """the page to write (HTML, needs nothing beside it)"""
    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        choose("action", self.action, ["show"])
        if self.out.is_dir():
            raise UsageError(f"--out {self.out} is a folder: name a file, such as {self.out / 'data.html'}")
        check_writable(self.out.parent)
        from trimask.data.quickstart.show import write_contact_sheet

        self.out.parent.mkdir(parents=True, exist_ok=True)
        with reading_files():
            write_contact_sheet(self.out)
        if self.json:
            print_json({"page": str(self.out)})
        say(f"wrote {self.out}: open it in a browser")
        return 0
