"""A folder of package files: what is there is used, the rest is fetched; each is compared with its hash."""

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
    """What was used of a package, as the manifest states it.

    Attributes:
        is_pinned: whether it is byte for byte the file that the reader was written for.
    """

    name: str
    version: str
    sha256: str
    is_pinned: bool


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PackageStore:
    """Package files in `folder`, and what they hold in `unpacked`.

    Attributes:
        any_version: take a Debian package also when it is not the pinned one.
        obtained: what was asked for so far.
    """

    folder: Path
    unpacked: Path
    any_version: bool = False
    report: Report = lambda message: None
    obtained: list[Obtained] = field(default_factory=list)

    def unpack(self, package: Package) -> Path:
        """The folder with what the package holds.

        Raises:
            UserError: a file that is not the pinned one. OSError: it cannot be fetched or opened.
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
            # Renamed when it is whole; not synchronized like results, which takes minutes for so many files
            folder = Path(tempfile.mkdtemp(dir=self.unpacked))
            package.unpack(file, folder)
            os.replace(folder, target)
        return target

    def note_installed(self, name: str, version: str, file: Path) -> None:
        """Say in the manifest that `file` of an installed package was used."""
        digest = io.sha256(file)
        self.obtained.append(
            Obtained(name=f"{name} (installed)", version=version, sha256=digest, is_pinned=False)
        )

    def _file(self, package: Package) -> tuple[Path, str]:
        """The package's file and its SHA-256."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / package.file).is_file():
            return self._checked(package, self.folder / package.file)
        if self.any_version and (others := package.others(self.folder)):
            return self._checked(package, others[-1])
        self.report(f"fetching {package.file}")
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".fetching.") as temporary:
            # apt-get gives up its privileges for a user who must be able to look into the folder
            os.chmod(temporary, 0o755)
            found = package.download(Path(temporary), any_version=self.any_version)
            self._checked(package, found)
            kept = self.folder / found.name
            shutil.move(found, kept)
        return self._checked(package, kept)

    def _checked(self, package: Package, file: Path) -> tuple[Path, str]:
        digest = io.sha256(file)
        if digest == package.sha256:
            return file, digest
        what = f"{file.name} is not the pinned package (SHA-256 {digest[:12]}…, not {package.sha256[:12]}…)"
        if isinstance(package, NpmPackage):
            raise UserError(f"{what}: if it lies in {self.folder}, delete it; then fetch it again")
        if not self.any_version:
            raise UserError(f"{what}: take it nevertheless with --any-version, or fetch the pinned one")
        self.report(f"{what}: taken nevertheless")
        return file, digest
