import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trimask import __version__
from trimask.cli import destination, main
from trimask.cli.console import shorten
from trimask.cli.entry import VERBS

HEAVY = ("torch", "matplotlib", "pyarrow", "PIL")


def fails(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, *parts: str, out: Path | None = None
) -> None:
    """`words` end with `status` and one line that has all `parts`; nothing on stdout, nothing at `out`."""
    assert main(words) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("trimask: error: ")
    assert not [part for part in parts if part not in lines[0]], lines[0]
    assert out is None or not out.exists()


def test_the_overview_names_each_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert all(f"\n  {verb} " in printed for verb in VERBS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"trimask {__version__}"


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_imports_nothing_heavy(verb: str) -> None:
    program = "import sys; from trimask.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    program += f"assert not set({HEAVY}) & set(sys.modules), sorted(set({HEAVY}) & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program, verb, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert f"usage: trimask {verb}" in run.stdout


def test_list_is_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "quickstart_mini " in capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert {"debug", "quickstart_mini", "quickstart"} <= {recipe["name"] for recipe in recipes}
    assert all(recipe["purpose"] for recipe in recipes)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["unknown verb 'trian'", "did you mean train?"]),
        (["list", "--jsn"], ["unknown option --jsn", "--json"]),
        (["show", "debg"], ["unknown recipe 'debg'", "did you mean debug?"]),
        (["show", "nothing"], ["unknown recipe 'nothing'", "choose one of debug, quickstart_mini"]),
        (["show", "debug", "--diff", "quickstat"], ["unknown recipe 'quickstat'", "quickstart"]),
        (["show", "debug", "--model.dept", "6"], ["model.dept", "did you mean depth?"]),
        (["show", "debug", "--model.depth", "six"], ["model.depth = 'six'", "a whole number"]),
        (["show", "debug", "--model.width", "33"], ["model: ", "33"]),
        (["train", "debug"], ["--out", "trimask train --help"]),
        (["train", "debug", "--out", "OUT", "--minutes", "0"], ["--minutes is 0", "above 0"]),
        (["train", "debug", "--out", "OUT", "--minutes", "1e308"], ["--minutes is 1e+308", "at most"]),
        (["train", "debug", "--out", "OUT", "--threads", "0"], ["--threads is 0", "at least 1"]),
        (["train", "debug", "--out", "OUT", "--threads", "1000000000"], ["--threads is", "at most 1,024"]),
        (["prepare", "gone", "--out", "OUT", "--workers", "1000000000"], ["--workers is", "at most 1,024"]),
        (["study", "plan", "horizon", "--threads", "1000000000"], ["--threads is", "at most 1,024"]),
        (["study", "plan", "horizon", "--workers", "1000000000"], ["--workers is", "at most 1,024"]),
        (["evaluate", "quickstart", "--threads", "1000000000"], ["--threads is", "at most 1,024"]),
        (["train", "debug", "--out", "OUT", "--num-steps", "0"], ["num_steps 0", "at least 1"]),
        (["train", "debug", "--out", "OUT", "--tokenizers", "gone"], ["--tokenizers gone is not a folder"]),
        (["data", "shw", "--out", "OUT"], ["unknown action 'shw'", "show"]),
        (["demo", "--out", "OUT", "--minutes", "-1"], ["--minutes is -1", "from 0 to"]),
        (["demo", "--out", "OUT", "--minutes", "1e308"], ["--minutes is 1e+308", "from 0 to"]),
        (["evaluate"], ["give RUN", "--fetch-judges DIR"]),
        (["evaluate", "quikstart"], ["not a run directory", "did you mean quickstart?"]),
        (["evaluate", "quickstart", "--suite", "quik"], ["unknown suite 'quik'", "quick"]),
        (["evaluate", "quickstart", "--num-masks", "0"], ["num_masks is 0", "at least 1"]),
        (["evaluate", "quickstart", "--judges", "gone"], ["judge 'gone'", "role=NAME_OR_FOLDER"]),
        (["evaluate", "--fetch-judges", "OUT", "--out", "x"], ["without RUN", "leave --out"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_arguments(
    words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    fails(capsys, [str(out) if word == "OUT" else word for word in words], 2, *parts, out=out)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "debug"],
        ["sample", "quickstart", "--task", "text"],
        ["data", "show"],
        ["demo"],
        ["evaluate", "quickstart"],
    ],
    ids=lambda words: words[0],
)
class TestOutCannotBeWritten:
    def test_a_file_is_in_the_way(
        self, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "below" / "out"
        fails(capsys, [*words, "--out", str(out)], 1, "cannot write to", "another --out")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize(
        ("number", "fix"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "that you may write to")]
    )
    def test_no_space_or_no_permission(
        self,
        words: list[str],
        number: int,
        fix: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(destination.os, "fsync", full)
        out = tmp_path / "a" / "out"
        fails(capsys, [*words, "--out", str(out)], 1, "cannot write to", os.strerror(number), fix)
        assert not (tmp_path / "a").exists()


def test_too_little_space_is_seen_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="are needed: free some space, or choose another --out"):
        destination.check_writable(tmp_path / "out", num_bytes=10**18)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    # Not for a moment: another process may be about to make it, or to begin in it.
    monkeypatch.delattr(os, "mkdir")
    monkeypatch.delattr(os, "rmdir")
    destination.check_writable(tmp_path / "kept", num_bytes=1)
    destination.check_writable(tmp_path / "new" / "below")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


def test_the_traceback_is_shown_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMASK_TRACEBACK", "1")
    assert main(["trian"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and printed.splitlines()[-1].startswith("trimask: error: unknown verb")


def test_differences_of_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "quickstart", "--diff", "quickstart_mini", "--model.depth=6", "--json"]) == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert differences["model.depth"] == {"quickstart": 6, "quickstart_mini": 4}
    assert "seed" not in differences
    assert main(["show", "debug", "--diff", "debug"]) == 0
    assert "equal" in capsys.readouterr().out


def test_a_long_line_is_cut_between_words() -> None:
    words = [f"language{number}" for number in range(200)]
    line = f"error: no language 'x': choose one of {', '.join(words)} (--language)"
    said = shorten(line)
    head, _, tail = said.partition(" … ")
    assert len(said) <= 1003 and line.startswith(f"{head} ") and line.endswith(f" {tail}")
    assert head.startswith("error: no language 'x'") and tail.endswith("(--language)")
    assert shorten("short") == "short"
    whole = shorten(f"error: {'x' * 5000} is no name")  # one word of what was given
    assert len(whole) <= 1003 and whole.startswith("error: xxx") and whole.endswith("xxx is no name")
