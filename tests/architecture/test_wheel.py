"""What is built for others: a wheel that works outside a checkout, and a source archive that is the tree."""

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import trimask

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".ci/", ".github/", ".gitignore")  # what serves the repository alone
ADDED = {"PKG-INFO", "setup.cfg"}  # by setuptools


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def call(command: Sequence[str | Path], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both, made of the tracked files; without isolation, so that nothing is fetched."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).symlink_to(ROOT / name)
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, "."], source)
    return out


def test_the_wheel_is_the_package_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name == f"trimask-{trimask.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (place,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        told = email.message_from_bytes(wheel.read(place))
    assert {f"src/{name}" for name in names} == {name for name in tracked() if name.startswith("src/")}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert told["Version"] == trimask.__version__ and told["License-Expression"] == settings["license"]
    assert set(told.get_all("Provides-Extra", [])) == set(settings["optional-dependencies"])
    assert "# trimask" in str(told.get_payload())


def test_the_source_archive_is_the_tree(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    ours = {name for name in tracked() if not name.startswith(LEFT_OUT)}
    assert {name for name in names - ADDED if ".egg-info/" not in name} == ours


def test_it_works_outside_a_checkout(built: Path, tmp_path: Path) -> None:
    """Installed into an environment of its own, which borrows the libraries of this one."""
    (wheel,) = built.glob("*.whl")
    home, desk = tmp_path / "environment", tmp_path / "desk"
    desk.mkdir()
    venv.create(home)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    call(["env", "PIP_DISABLE_PIP_VERSION_CHECK=1", *install], desk)
    site = Path(call([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], desk).strip())
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = home / "bin" / "trimask"
    assert "quickstart_mini" in call([program, "list"], desk)
    words = [
        "sample",
        "quickstart",
        "--task=text_to_image",
        "--prompt=strawberry",
        "--num-steps=2",
        "--out=.",
    ]
    call([program, *words], desk)
    assert list(desk.glob("*.png"))
    load = "import trimask; print(trimask.__file__, type(trimask.load('quickstart')).__name__)"
    place, name = call([python, "-c", load], desk).split()
    assert Path(place).is_relative_to(home) and name == "Generator"
