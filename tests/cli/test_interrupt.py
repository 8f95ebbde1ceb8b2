"""Ctrl-C at any moment of a command: one line, status 130, and no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
LINE = "trimask: interrupted\n"
# A command that does what `DOING` says, in a process that is the command's own.
PROGRAM = """
import atexit, os, signal, sys
from trimask import cli
from trimask.cli import entry
atexit.register(print, "left in order")
def run(argv):
    {doing}
    print("went on")
    return 0
entry._dispatch = run
sys.exit(cli.main())
"""


def ended(doing: str, folder: Path) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command that is doing this when Ctrl-C comes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(doing=doing)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def test_in_the_middle_of_work(tmp_path: Path) -> None:
    assert ended(INTERRUPT, tmp_path) == (130, "left in order\n", LINE)


@pytest.mark.parametrize("after", ["raise AttributeError('half imported')", "value = 1"])
def test_in_the_middle_of_an_import(after: str, tmp_path: Path) -> None:
    """Libraries swallow what is raised while they are imported, and fail later."""
    library = f"import os, signal\ntry:\n    {INTERRUPT}\nexcept BaseException:\n    pass\n{after}\n"
    (tmp_path / "library.py").write_text(library)
    assert ended("import library", tmp_path) == (130, "", LINE)


def test_while_a_sound_is_read(tmp_path: Path) -> None:
    """The library reads by calling back, and swallows what is raised then."""
    (tmp_path / "sound.py").write_text(
        f"""
import io, os, signal, time
import numpy as np
import soundfile

class Loud(io.BytesIO):
    def readinto(self, buffer):
        {INTERRUPT}
        return super().readinto(buffer)

def read():
    written = io.BytesIO()
    soundfile.write(written, np.zeros(1000), 16000, format="WAV")
    soundfile.read(Loud(written.getvalue()))
    time.sleep(3600)  # ends at once, or the command runs out of time
"""
    )
    assert ended("import sound; sound.read()", tmp_path) == (130, "left in order\n", LINE)


def test_before_the_command_line_is_there() -> None:
    program = """
import builtins, runpy
plain = builtins.__import__
def interrupted(name, *more, **named):
    if name == "trimask.cli":
        raise KeyboardInterrupt
    return plain(name, *more, **named)
builtins.__import__ = interrupted
runpy.run_module("trimask.__main__", run_name="__main__")
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (130, "", LINE)


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    doing = f"assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN; {INTERRUPT}"
    program = PROGRAM.format(doing=doing).replace(
        "atexit.register", "signal.signal(2, signal.SIG_IGN) or print"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stderr) == (0, "") and "went on" in run.stdout


def test_after_the_work_its_status_stays(tmp_path: Path) -> None:
    """The libraries are taken down then, which takes up to a second."""
    status, told, errors = ended(f"atexit.register(lambda: ({INTERRUPT}))", tmp_path)
    assert (status, errors) == (0, "") and told.startswith("went on\n")


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1.0, 2.0, 4.0, 8.0, 16.0])
@pytest.mark.parametrize(
    "words",
    [
        "sample quickstart --task text_to_image --prompt strawberry --num-samples 5000 --out {out}",
        "train debug --num-steps 100000 --out {out}",
        "train debug --num-steps 100000 --compute.data-workers 2 --out {out}",
        "train image_tokenizer --training.num-steps 100000 --out {out}",
        "demo --out {out} --minutes 0",
        "evaluate quickstart --out {out}.json",
    ],
)
def test_each_verb(words: str, delay: float, tmp_path: Path) -> None:
    given = words.format(out=tmp_path / "out").split()
    with subprocess.Popen(
        [sys.executable, "-m", "trimask", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        time.sleep(delay)
        os.killpg(command.pid, signal.SIGINT)
        _, err = command.communicate(timeout=120)
    # A demo that is generating ends the stage, and writes its report with what there is.
    assert command.returncode in ((0, 130) if given[0] == "demo" else (130,)), err
    assert "Traceback" not in err and "Exception ignored" not in err, err
    assert given[0] == "demo" or err.splitlines()[-1].startswith("trimask: "), err
