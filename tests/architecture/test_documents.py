"""What the documents say can be typed, and leads somewhere."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command_lines import commands, taken
from trimask.training.compute import ComputeConfig
from trimask.training.tracker import read_metrics

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
TWO_PROCESSES = "torchrun --nproc-per-node 2 -m trimask train debug --out runs/two"


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_command_is_taken(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)
    for name, source in files:  # of the reader's own, which the commands name
        Path(name).write_text(source, encoding="utf-8")
    for words in commands(text_of(document)):
        try:
            taken(words)
        except (ValueError, SystemExit) as error:
            pytest.fail(f"{document}: {' '.join(words)}: {error}")


def test_there_are_commands() -> None:
    with_commands = [document for document in DOCUMENTS if commands(text_of(document))]
    assert "README.md" in with_commands and len(with_commands) > 20


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_can_be_typed_one_after_the_other(document: str) -> None:
    """No two begin something in the same folder: the second would be refused."""
    begun: dict[str, str] = {}
    for words in commands(text_of(document)):
        if {"prepare", "train", "tokenizers"} & set(words) and "--resume" not in words and "--out" in words:
            line, out = " ".join(words), words[words.index("--out") + 1]
            assert begun.setdefault(out, line) == line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_way_of_computing_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"--compute\.([\w-]+)", text_of(document)))
    fields = {field.name for field in dataclasses.fields(ComputeConfig)}
    assert {name.replace("-", "_") for name in named} <= fields


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_link_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", text_of(document))
    lost = [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert not lost


OURS_ALONE = re.compile(
    r"\b(?:METHO[D]|PERFORMANC[E]|PEER[S]|FEASIBILIT[Y]|HOUS[E]|EXEMPLAR[S]|DESIG[N])\b(?!_)|§ ?\d"
)
HAD_BY_USERS = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENCES.md"}  # the last: of fetched data


def written() -> list[Path]:
    """Sources and documents, but for experiments, which are records."""
    rooms = ("src", "tests", "docs", "benchmarks", "examples")
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bootstrap.py"]
    return files + [p for room in rooms for p in (ROOT / room).rglob("*") if p.suffix in {".py", ".md"}]


def test_no_document_is_named_that_users_do_not_have() -> None:
    lost = []
    for path in written():
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"\b[A-Z][A-Z_]+\.md\b", text)) - HAD_BY_USERS
        if named | set(OURS_ALONE.findall(text)):
            lost.append((str(path.relative_to(ROOT)), named | set(OURS_ALONE.findall(text))))
    assert not lost


@pytest.mark.slow
def test_the_first_steps_in_two_processes(tmp_path: Path) -> None:
    """The command of docs/from-laptop-to-cluster.md, and that the loss is that of one process."""
    assert TWO_PROCESSES in text_of("docs/from-laptop-to-cluster.md")
    program, *words = TWO_PROCESSES.split()
    bin = str(Path(sys.executable).parent)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    alone = "trimask train debug --out runs/one".split()
    for command in ([program, "--standalone", *words], [sys.executable, "-m", *alone]):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "finished after 20 of 20 steps" in done.stderr
    rows, others = (read_metrics(tmp_path / "runs" / name) for name in ("one", "two"))
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in others], rel=1e-5)
    assert (tmp_path / "runs" / "two" / "model.safetensors").exists()
