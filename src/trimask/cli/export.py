"""`trimask export`: write a run's weights as one file, or its model as a folder, and push it to a hub."""

import tempfile
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
    """Write a run's weights as one safetensors file, or its whole model as a folder, and push it to a hub.

    `trimask train RECIPE --weights FILE` starts a run from that file. The folder has all that sampling needs,
    with a model card: `trimask sample DIR` and `trimask.load` read it, also from the hub by its name there.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """a run directory, finished or not, RUN/checkpoints/step_…, an exported file, or `quickstart`"""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE|DIR")] = None
    """the .safetensors file to write, or a new folder"""
    push: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None
    """push the folder to this repository of the Hugging Face hub (log in first: hf auth login)"""
    private: bool = False
    """make the repository private, if it is new"""
    license: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """for the card of a folder: a license, such as apache-2.0"""
    languages: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CODE")] = ()
    """for the card of a folder: the languages of the training data, such as en fr"""
    dtype: Literal["float16", "bfloat16", "float32"] | None = None
    """precision of the weights; float32 keeps them, to continue training or for equal samples (default:
    float16 in a file, float32 in a folder)"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        is_file = self._check()
        if self.out is not None:
            check_writable(self.out.parent)
        if is_file:
            assert self.out is not None
            return self._write_file(self.out)
        if self.out is not None:
            return self._write_folder(self.out)
        with tempfile.TemporaryDirectory() as temporary:
            return self._write_folder(Path(temporary) / "model")

    def _check(self) -> bool:
        """Check the arguments; return whether a file is wanted."""
        if self.out is None and self.push is None:
            raise UsageError("nothing to write: give --out FILE.safetensors, --out DIR, or --push OWNER/NAME")
        is_file = self.out is not None and self.out.suffix == ".safetensors"
        if self.out is not None and not is_file and self.out.suffix in (".bin", ".pt", ".pth", ".ckpt"):
            raise UsageError(
                f"--out {self.out} does not end in .safetensors: give a name that does, or a folder"
            )
        if is_file and (self.push or self.license or self.languages):
            raise UsageError("--push, --license and --languages are for a folder: give --out DIR, or none")
        if self.private and self.push is None:
            raise UsageError("--private is for --push OWNER/NAME: leave it out")
        return is_file

    def _write_file(self, out: Path) -> int:
        if out.is_file():
            say(f"{out} exists and will be overwritten")
        import torch

        from trimask.runs.export import export

        dtype = self.dtype or "float16"
        with convert_file_errors():
            metadata = export(self.model, out, dtype=getattr(torch, dtype))
        return self._tell(out, dtype, metadata, {"file": str(out)})

    def _write_folder(self, out: Path) -> int:
        from trimask.sharing.folder import save_model
        from trimask.sharing.push import push_folder

        dtype = self.dtype or "float32"
        told: dict[str, str] = {} if self.out is None else {"folder": str(out)}
        with convert_file_errors():
            facts = save_model(
                self.model,
                out,
                dtype=dtype,
                name=self.push,
                license=self.license,
                languages=self.languages,
            )
            if self.push is not None:
                told["pushed"] = push_folder(out, self.push, private=self.private)
        return self._tell(out, dtype, facts, told)

    def _tell(self, out: Path, dtype: str, facts: Mapping[str, str], told: Mapping[str, str]) -> int:
        files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        if self.json:
            print_json({**told, "bytes": size, "dtype": dtype, **facts})
        words = ", ".join(f"{name} {value}" for name, value in facts.items())
        what = told.get("pushed", str(out))
        say(f"{what}: {size / 1e6:.1f} MB, with {dtype} weights ({words})")
        return 0
