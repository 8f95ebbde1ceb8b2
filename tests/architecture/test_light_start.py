"""The command line answers at once: help and lists load neither torch nor anything else that is heavy."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "matplotlib",
    "pyarrow",
    "scipy",
    "transformers",
    "datasets",
    "faster_whisper",
    "onnxruntime",
    "fastapi",
    "uvicorn",
)

PROGRAM = """
import sys
from trimask.cli import main
sys.argv = ["trimask", *sys.argv[1:]]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, f"loaded: {{loaded}}"
assert not code, f"exit status {{code}}"
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["serve", "--help"]], ids=" ".join
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    program = PROGRAM.format(heavy=HEAVY)
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_the_package_itself_is_light() -> None:
    """All of its names can be listed and found; each loads what it needs when it is called."""
    program = (
        "import sys, trimask\n"
        "assert all(getattr(trimask, name) for name in trimask.__all__)\n"
        f"assert not [name for name in {HEAVY} if name in sys.modules]"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
