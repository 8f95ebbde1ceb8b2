"""Packages come from the user's package clients, and are what was pinned."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fake_packages import FakeArchive
from trimask.datasets.package import DebianPackage, NpmPackage
from trimask.datasets.store import Obtained, PackageStore

DEB = DebianPackage(name="sounds", version="1:2.0-1", sha256="?")
NPM = NpmPackage(name="@some/pictures", version="1.1.0", sha256="?")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    return FakeArchive(tmp_path / "fake", monkeypatch)


def store(tmp_path: Path, *, any_version: bool = False) -> PackageStore:
    return PackageStore(folder=tmp_path / "packages", unpacked=tmp_path / "unpacked", any_version=any_version)


def test_files_are_named_as_the_package_managers_do():
    assert DEB.file == "sounds_1%3a2.0-1_all.deb"
    assert replace(DEB, architecture="amd64", version="3").file == "sounds_3_amd64.deb"
    assert NPM.file == "some-pictures-1.1.0.tgz"


@pytest.mark.parametrize("kind", [DEB, NPM])
def test_fetched_once_and_then_read(kind: DebianPackage | NpmPackage, tmp_path: Path, archive: FakeArchive):
    package = archive.add(kind, {"usr/a.txt": b"A", "b.txt": b"B"})
    used = store(tmp_path)
    folder = used.unpack(package)
    assert (folder / "usr/a.txt").read_bytes() == b"A" and (folder / "b.txt").read_bytes() == b"B"
    pinned = Obtained(name=kind.name, version=kind.version, sha256=package.sha256, is_pinned=True)
    assert used.obtained == [pinned]
    assert [path.name for path in (tmp_path / "packages").iterdir()] == [kind.file]
    archive.without("npm", "apt-get", "dpkg-deb")
    assert store(tmp_path).unpack(package) == folder


@pytest.mark.parametrize("kind", [DEB, NPM])
def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    kind: DebianPackage | NpmPackage, tmp_path: Path, archive: FakeArchive
):
    archive.add(kind, {"a": b"changed"})
    with pytest.raises(ValueError, match=f"{kind.file} is not the pinned package"):
        store(tmp_path).unpack(kind)
    assert list((tmp_path / "packages").iterdir()) == []


def test_npm_versions_never_change_so_no_option_takes_another_file(tmp_path: Path, archive: FakeArchive):
    archive.add(NPM, {"a": b"changed"})
    with pytest.raises(ValueError, match="is not the pinned package"):
        store(tmp_path, any_version=True).unpack(NPM)


def test_the_archive_moved_on(tmp_path: Path, archive: FakeArchive):
    newer = archive.add(replace(DEB, version="1:2.1-1"), {"a": b"newer"})
    with pytest.raises(OSError, match=r"lacks the pinned version 1:2\.0-1: .* --any-version"):
        store(tmp_path).unpack(DEB)
    used = store(tmp_path, any_version=True)
    assert (used.unpack(DEB) / "a").read_bytes() == b"newer"
    assert used.obtained == [Obtained(name="sounds", version="1:2.1-1", sha256=newer.sha256, is_pinned=False)]
    archive.without("apt-get")
    again = store(tmp_path, any_version=True)
    assert again.unpack(DEB) == used.unpack(DEB) and again.obtained == used.obtained[:1]


def test_a_file_by_hand_needs_no_package_manager(tmp_path: Path, archive: FakeArchive):
    package = archive.add(NPM, {"a": b"A"})
    (tmp_path / "packages").mkdir()
    (archive.folder / package.file).rename(tmp_path / "packages" / package.file)
    archive.without("npm")
    assert (store(tmp_path).unpack(package) / "a").read_bytes() == b"A"


def test_programs_that_are_missing_or_fail_are_named(tmp_path: Path, archive: FakeArchive):
    with pytest.raises(OSError, match=r"npm pack .* failed \(npm error 404 some-pictures-1\.1\.0\.tgz\)"):
        store(tmp_path).unpack(NPM)
    archive.without("apt-get", "npm")
    with pytest.raises(FileNotFoundError, match=r"no program `apt-get`.*sounds_1%3a2\.0-1_all\.deb into a"):
        store(tmp_path).unpack(DEB)
    with pytest.raises(FileNotFoundError, match=r"no program `npm` on PATH"):
        store(tmp_path).unpack(NPM)


def test_an_installed_program_is_recorded(tmp_path: Path):
    used = store(tmp_path)
    (tmp_path / "flite").write_bytes(b"program")
    used.note_installed("flite", "2.2", tmp_path / "flite")
    digest = hashlib.sha256(b"program").hexdigest()
    assert used.obtained == [
        Obtained(name="flite (installed)", version="2.2", sha256=digest, is_pinned=False)
    ]
