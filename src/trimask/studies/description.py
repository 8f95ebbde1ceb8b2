"""What a study's folder says about it: `study.json`."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimask import io
from trimask.errors import UserError

STUDY = "study.json"


def read_study(out: Path) -> dict[str, Any]:
    """Read the description of the study in `out`. UserError if there is none, or it is damaged."""
    if not os.path.lexists(out / STUDY):
        raise UserError(f"{out} holds no study: run one there first")
    return read_description(out / STUDY)


def read_description(path: Path) -> dict[str, Any]:
    """Read what `run_study` wrote. UserError if it is damaged or something else."""
    stored = io.read_sealed(path, fix="put back what was there, or choose another --out")
    names = {"request": dict, "study": dict, "environment": dict, "threads": int}
    asked = {"study": str, "short": bool, "data": list, "overrides": dict}
    made_on = {"device_name": str, "cores": int, "torch": str}
    if not (_has(stored, names) and _has(stored["request"], asked) and _has(stored["environment"], made_on)):
        raise UserError(f"{path} does not describe a study: choose another --out")
    return stored


def format_command(request: Mapping[str, Any], out: str = "DIR") -> str:
    """Return the command that started a study."""
    words = ["trimask", "study", "run", request["study"], "--out", out]
    words += ["--short"] if request["short"] else []
    words += ["--run", request["run"]] if request.get("run") else []
    for folder in request["data"]:
        words += ["--data", folder]
    for name, folder in request.get("uses", {}).items():
        words += ["--uses", f"{name}={folder}"]
    words += ["--judges", *request["judges"]] if request.get("judges") else []
    words += [f"--{path}={value}" for path, value in request["overrides"].items()]
    return shlex.join(words)


def _has(stored: Any, kinds: Mapping[str, type]) -> bool:
    """Return whether `stored` is an object with these values."""
    return isinstance(stored, dict) and all(isinstance(stored.get(name), kinds[name]) for name in kinds)
