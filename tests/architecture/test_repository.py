"""What the repository as a whole keeps to: its text, its size, its modules, its tests beside its sources."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "trimask"
MEGABYTE = 1_000_000

MODULES = sorted(path.relative_to(SOURCES) for path in SOURCES.rglob("*.py"))

# Where a text was written and where its packages came from differ between readers.
MACHINE_PATHS = re.compile(r"(?<![\w.}/])/(work|root|home/\w+|Users/\w+|opt/(wheels|pypi))/")
REGISTRY_HOSTS = re.compile(
    r"\b(pypi|test\.pypi|files\.pythonhosted|npmjs|registry\.npmjs|deb\.debian|download\.pytorch|crates)\.(org|com|io)\b",
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    content = path.read_bytes()
    return None if b"\0" in content[:8000] else content.decode("utf-8", errors="replace")


def test_the_tree_is_small() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    large = [
        f"{path.relative_to(ROOT)}: {size / MEGABYTE:.1f} MB"
        for path, size in sizes.items()
        if size > 30 * MEGABYTE
    ]
    assert not large, f"files over 30 MB: {large}"
    assert sum(sizes.values()) < 50 * MEGABYTE, (
        f"{sum(sizes.values()) / MEGABYTE:.1f} MB are tracked, the bound is 50"
    )


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["machine paths", "registry hosts"])
def test_the_text_speaks_of_the_project_alone(pattern: re.Pattern[str]) -> None:
    found = []
    for path in tracked():
        text = text_of(path)
        if text is None or path.stat().st_size > 5 * MEGABYTE:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_the_patterns_find_what_they_are_for() -> None:
    assert MACHINE_PATHS.search("see " + "/".join(["", "work", "main"])) and MACHINE_PATHS.search(
        "/".join(["", "root", ".x"])
    )
    assert not MACHINE_PATHS.search("https://example.org/work/of/art") and not MACHINE_PATHS.search(
        "a/work/b"
    )
    assert REGISTRY_HOSTS.search("https://" + ".".join(["pypi", "org"]) + "/simple")
    assert not REGISTRY_HOSTS.search("on PyPI")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_module_says_what_it_is_and_stays_short(module: Path) -> None:
    text = (SOURCES / module).read_text(encoding="utf-8")
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"
    lines = len(text.splitlines())
    assert lines <= 400, f"{module} has {lines} lines: split it by concept"


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "tools"}
    assert not [str(module) for module in MODULES if vague & set(module.with_suffix("").parts)]


def test_the_tests_mirror_the_sources() -> None:
    tests = ROOT / "tests"
    own = {"architecture", "golden", "__pycache__"}
    folders = {
        path.relative_to(tests)
        for path in tests.rglob("*")
        if path.is_dir() and not own & set(path.relative_to(tests).parts) and any(path.glob("*.py"))
    }
    strays = [
        str(folder)
        for folder in sorted(folders)
        if not (SOURCES / folder).is_dir() and not (ROOT / folder).is_dir()
    ]
    assert not strays, f"test folders without a package, or a folder beside src, of that name: {strays}"


def test_no_room_is_above_a_tenth_of_the_code() -> None:
    package = ROOT / "src" / "trimask"
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in package.rglob("*.py")}
    rooms = {
        room.name: sum(n for path, n in lines.items() if room in path.parents) for room in package.iterdir()
    }
    assert {room for room, size in rooms.items() if size > sum(lines.values()) / 10} == set()


def test_contributing_shows_the_floors_as_they_are() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    held = [re.findall(r"\w+", layer) for layer in layers if layer != "__main__"]
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Floors")[2]
    shown = [re.split(r"\s{2,}", line)[0].split(" | ") for line in page.split("```")[1].strip().splitlines()]
    assert shown == held
