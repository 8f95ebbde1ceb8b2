"""A package archive in a folder, and programs that fetch from it: no network, no package manager."""

import gzip
import hashlib
import io
import sys
import tarfile
import wave
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from trimask.datasets.package import DebianPackage, NpmPackage

_NPM = """
name, _, version = sys.argv[3].rpartition("@")
file = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
assert sys.argv[1:3] == ["pack", "--silent"]
if not (archive / file).is_file():
    sys.exit(f"npm error 404 {file}")
shutil.copyfile(archive / file, file)
"""
_APT_GET = """
name, _, version = sys.argv[2].partition("=")
assert sys.argv[1] == "download"
found = sorted(archive.glob(f"{name}_{version.replace(':', '%3a')}*.deb"))
if not found:
    print("Reading package lists...")
    sys.exit(f"E: Version '{version}' for '{name}' was not found")
shutil.copyfile(found[-1], found[-1].name)
"""
_DPKG_DEB = """
import tarfile
assert sys.argv[1] == "-x"
with tarfile.open(sys.argv[2]) as file:
    file.extractall(sys.argv[3], filter="data")
"""
_FLITE = """
import hashlib, wave
if sys.argv[1] == "-lv":
    print("Voices available: kal awb_time kal16 awb rms slt ")
elif sys.argv[1] == "--version":
    print("  version: flite-2.2-current Sep 2018")
    sys.exit(1)
else:
    _, voice, _, text, _, out = sys.argv[1:]
    if (archive / "broken").exists() and (archive / "broken").read_text() == text:
        sys.exit(f"cannot read {text}")
    with (archive / "read.log").open("a") as log:
        log.write(f"{voice} {text}\\n")
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", None))
        file.writeframes(hashlib.sha256((voice + text).encode()).digest() * 100)
"""
_PROGRAMS = {"npm": _NPM, "apt-get": _APT_GET, "dpkg-deb": _DPKG_DEB, "flite": _FLITE}

PackageT = TypeVar("PackageT", bound=DebianPackage | NpmPackage)


class FakeArchive:
    """Packages by `add`; while it is in use, PATH has the fake programs alone."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = root / "archive"
        self.folder.mkdir(parents=True)
        self.programs = root / "bin"
        self.programs.mkdir()
        for name, code in _PROGRAMS.items():
            program = self.programs / name
            head = f"#!{sys.executable}\nimport pathlib, shutil, sys\n"
            program.write_text(f"{head}archive = pathlib.Path({str(self.folder)!r})\n{code}")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(self.programs))

    def add(self, package: PackageT, files: dict[str, bytes]) -> PackageT:
        """Put a package with `files` there; the package with the hash that it has now."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))
        (self.folder / package.file).write_bytes(data.getvalue())
        return replace(package, sha256=hashlib.sha256(data.getvalue()).hexdigest())

    def without(self, *programs: str) -> None:
        """As if these were not installed."""
        for program in programs:
            (self.programs / program).unlink()


def wav(seconds: float, *, rate: int = 8000, level: int = 32) -> bytes:
    """A recording that is not silent; another `level` is another recording."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes([0, level, 0, 256 - level]) * int(seconds * rate / 2))
    return out.getvalue()


PROMPTS = """; Core sounds
activated: Activated.
beep: [this is a simple beep tone]
conf-menu: Press 1 now.
conf-mute-in: To mute yourself...
conf-mute-out: ...to mute yourself.
digits/1: one
joined: press one conf-menu: Press 1 now.
letters/w: w
long: This is far more than anybody can say in so short a time.
noted: sorry [really]
silence/1: (1 second of silence)
sip: SIP
unrecorded: not there
"""


def asterisk_packages(archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """English prompts: five that are clean, each of the others for another reason not."""
    from trimask.datasets import asterisk

    prompts = [line.split(":")[0] for line in PROMPTS.splitlines()[1:-1]] + ["untold"]
    sounds = "usr/share/asterisk/sounds/en_US_f_Allison"
    voice = asterisk.VOICES["en"]
    changed = replace(
        voice,
        sounds=archive.add(
            voice.sounds,
            {f"{sounds}/{prompt}.wav": wav(2.0, level=32 + n) for n, prompt in enumerate(prompts)},
        ),
        texts=archive.add(
            voice.texts,
            {"usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz": gzip.compress(PROMPTS.encode())},
        ),
    )
    monkeypatch.setattr(asterisk, "VOICES", {"en": changed})
