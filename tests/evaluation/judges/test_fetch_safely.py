"""Fetching runs nothing of the folder that the user stands in."""

from pathlib import Path

import pytest

from trimask.evaluation.judges import fetch


@pytest.mark.parametrize("search_path", [None, ".", "", ":"])
def test_nothing_of_the_current_folder_is_run(
    search_path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    here, target = tmp_path / "here", tmp_path / "target"
    target.mkdir()
    for name in ("pip/__init__.py", "pip/__main__.py", "tempfile.py", "sitecustomize.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(trap)
    monkeypatch.chdir(here)
    if search_path is not None:
        monkeypatch.setenv("PYTHONPATH", search_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OSError, match="pip could not download trimask-no-such-package"):
        fetch._download(["trimask-no-such-package==1"], target)
    assert not (tmp_path / "sprung").exists()
