"""How a person calls trimask from where they stand: what messages print must run as it is."""

import os
import shlex
import shutil
import sys
from pathlib import Path

_NAME = "trimask"


def program() -> str:
    """The words that start this program: `trimask` where the shell finds it, else a path, or `python -m`."""
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
    """`path`, shell-quoted: the bare name where the shell finds it, relative if it lies below this folder."""
    found = shutil.which(path.name)
    if found is not None and Path(found).absolute() == path.absolute():
        return path.name
    here = Path.cwd()
    if path.is_relative_to(here):
        return shlex.quote(os.path.join(".", path.relative_to(here)))
    return shlex.quote(str(path))
