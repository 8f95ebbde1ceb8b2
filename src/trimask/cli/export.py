"""`trimask export`: write a run's weights as one file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from trimask.cli.arguments import Verb
from trimask.cli.console import print_json, say
from trimask.cli.destination import check_writable
from trimask.cli.failure import UsageError, convert_file_errors


@final
@dataclass(frozen=True, kw_only=True)
class Export(Verb):
    """Write a run's weights as one safetensors file, from a checkpoint of any number of processes.

    `trimask train RECIPE --weights FILE` starts a run from that file.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """a run directory, finished or not, or RUN/checkpoints/step_…"""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """the .safetensors file to write"""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """precision of the weights in the file; use float32 to continue training from it"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out} does not end in .safetensors: give a name that does")
        check_writable(self.out.parent)
        if self.out.is_file():
            say(f"{self.out} exists and will be overwritten")
        import torch

        from trimask.runs.export import export

        with convert_file_errors():
            metadata = export(self.model, self.out, dtype=getattr(torch, self.dtype))
        size = self.out.stat().st_size
        if self.json:
            print_json({"file": str(self.out), "bytes": size, "dtype": self.dtype, **metadata})
        facts = ", ".join(f"{name} {value}" for name, value in metadata.items())
        say(f"{self.out}: {size / 1e6:.1f} MB of {self.dtype} weights ({facts})")
        return 0
