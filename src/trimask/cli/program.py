"""How the user calls trimask from the current folder: commands in messages must run as printed."""

import os
import shlex
import shutil
import sys
from pathlib import Path

_NAME = "trimask"


def program() -> str:
    """Return the words that start this program: `trimask` if it is on PATH, else its path, or `python -m`."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":  # python -m trimask
        return f"{_from_here(Path(sys.executable))} -m {_NAME}"
    if called.name != _NAME:  # called from another program
        return _NAME
    found = shutil.which(_NAME)
    if found is not None and Path(found).resolve() == called.resolve():
        return _NAME
    return _from_here(called.absolute())


def _from_here(path: Path) -> str:
    """Return `path`, shell-quoted: its name alone if it is on PATH, relative if it is below this folder."""
    found = shutil.which(path.name)
    if found is not None and Path(found).absolute() == path.absolute():
        return path.name
    here = Path.cwd()
    if path.is_relative_to(here):
        return shlex.quote(os.path.join(".", path.relative_to(here)))
    return shlex.quote(str(path))
