"""A set arrives whole or not at all, and once it is there it stays as it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import pytest

from trimask.datasets.benchmark import Benchmark, Collected, Source
from trimask.datasets.fetch import fetch
from trimask.datasets.store import PackageStore


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Letters(Benchmark):
    """Files a.wav, b.wav …; breaks after `breaks_after` of them, once."""

    name: ClassVar[str] = "letters"
    prepare_options: ClassVar[str] = ""
    count: int = 3
    written: ClassVar[list[str]] = []
    breaks_after: ClassVar[list[int]] = []

    def collect(self, store: PackageStore, folder: Path) -> Collected:
        names = [f"{chr(97 + n)}.wav" for n in range(self.count)]
        for number, name in enumerate(names):
            if self.breaks_after and self.breaks_after[0] == number:
                self.breaks_after.clear()
                raise KeyboardInterrupt
            if not (folder / name).exists():
                (folder / name).write_text(name)
                self.written.append(name)
        rows = [{"file_name": name, "text": name[0], "split": "train"} for name in names]
        rows[-1]["split"] = "test"
        source = Source(work="Letters", licence="CC0-1.0", attribution="nobody")
        return Collected(rows=rows, sources=(source,), dropped={"not a letter": ["2", "1"]})


@pytest.fixture(autouse=True)
def fresh() -> None:
    Letters.written.clear()
    Letters.breaks_after.clear()


def test_what_a_set_holds(tmp_path: Path):
    manifest, is_new = fetch(Letters(), tmp_path / "new" / "set")
    assert is_new and sorted(path.name for path in (tmp_path / "new").rglob("*")) == [
        "LICENCES.md",
        "a.wav",
        "b.wav",
        "c.wav",
        "manifest.json",
        "metadata.jsonl",
        "set",
    ]
    assert manifest == json.loads((tmp_path / "new/set/manifest.json").read_text())
    assert manifest == {
        "format_version": 1,
        "set": "letters",
        "options": {"count": 3},
        "packages": [],
        "counts": {"test": 1, "train": 2},
        "dropped_counts": {"not a letter": 2},
        "dropped": {"not a letter": ["1", "2"]},
    }


def test_the_second_run_changes_nothing(tmp_path: Path):
    fetch(Letters(), tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    manifest, is_new = fetch(Letters(), tmp_path / "set")
    assert not is_new and manifest["counts"] == {"test": 1, "train": 2}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_interrupted_it_goes_on(tmp_path: Path):
    Letters.breaks_after.append(2)
    with pytest.raises(KeyboardInterrupt):
        fetch(Letters(), tmp_path / "set")
    assert not (tmp_path / "set").exists() and Letters.written == ["a.wav", "b.wav"]
    fetch(Letters(), tmp_path / "set")
    assert Letters.written == ["a.wav", "b.wav", "c.wav"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_interrupted_and_asked_for_another_it_begins_anew(tmp_path: Path):
    Letters.breaks_after.append(2)
    with pytest.raises(KeyboardInterrupt):
        fetch(Letters(), tmp_path / "set")
    fetch(Letters(count=1), tmp_path / "set")
    assert Letters.written == ["a.wav", "b.wav", "a.wav"]
    assert sorted(path.name for path in (tmp_path / "set").glob("*.wav")) == ["a.wav"]


def test_other_options_and_other_folders_are_not_overwritten(tmp_path: Path):
    fetch(Letters(), tmp_path / "set")
    with pytest.raises(ValueError, match=r'holds letters \{"count": 3\}, not letters \{"count": 2\}'):
        fetch(Letters(count=2), tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="mine exists and holds no benchmark set"):
        fetch(Letters(), tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    assert fetch(Letters(), tmp_path / "empty")[1]
