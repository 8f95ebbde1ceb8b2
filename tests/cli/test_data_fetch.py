"""`trimask data list | fetch`: from a name to a folder, and on to shards."""

import json
from pathlib import Path

import pytest

from fake_packages import FakeArchive, asterisk_packages
from trimask.cli import main

SETS = ["emoji", "wordnet-speech", "asterisk", "tuxpaint"]


def test_the_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[::3]] == SETS
    assert main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == SETS and listed["tuxpaint"]["licence"] == "GPL-2"


def test_fetched_prepared_and_there(
    tmp_path: Path,
    tokenizers_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched:
        asterisk_packages(FakeArchive(tmp_path / "fake", patched), patched)
        words = ["data", "fetch", "asterisk", "--out", str(tmp_path / "set"), "--json"]
        words += ["--packages", str(tmp_path / "packages")]
        assert main(words) == 0
        printed = capsys.readouterr()
        fetched = json.loads(printed.out)
        assert fetched["fetched"] and fetched["set"] == "asterisk" and sum(fetched["counts"].values()) == 5
        assert "left out 2: tones and silence" in printed.err
        assert f"next: trimask prepare {tmp_path / 'set'} --speaker-column speaker --out" in printed.err
        assert len(list((tmp_path / "packages").iterdir())) == 2
        assert main(words) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out) == {**fetched, "fetched": False} and "already holds" in printed.err
        assert main(["data", "fetch", "asterisk", "--languages", "fr", "--out", str(tmp_path / "set")]) == 2
        assert "no language 'fr' in asterisk: choose from en" in capsys.readouterr().err

    out = tmp_path / "prepared"
    words = ["prepare", str(tmp_path / "set"), "--speaker-column", "speaker", "--out", str(out), "--json"]
    assert main([*words, "--workers", "1", "--tokenizers", str(tokenizers_folder)]) == 0
    prepared = json.loads(capsys.readouterr().out)
    counts = {split: found["speech"]["examples"] for split, found in prepared["counts"].items()}
    assert counts == fetched["counts"]
    assert prepared["rejected"] == {"columns": 1, "unused_file": 1}  # the manifest, the licences


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch", "asteriks", "--out", "x"], "unknown benchmark set 'asteriks': did you mean asterisk?"),
        (
            ["fetch", "--out", "x"],
            "no set is named: trimask data fetch emoji|wordnet-speech|asterisk|tuxpaint",
        ),
        (["fetch", "emoji"], "--out is missing"),
        (["show"], "--out is missing: trimask data show --out data.html"),
        (["list", "--out", "x"], "`trimask data list` does not use --out"),
        (["list", "emoji"], "`trimask data list` does not use 'emoji'"),
        (["show", "--out", "x", "--any-version"], "`trimask data show` does not use --any-version"),
        (["fetch", "emoji", "--count", "3", "--out", "x"], "emoji has no option --count: leave it out"),
        (["fetch", "asterisk", "--voices", "slt", "--out", "x"], "it takes --languages"),
        (["fetch", "wordnet-speech", "--count", "0", "--out", "x"], "count 0: give at least 1"),
        (["get", "emoji", "--out", "x"], "unknown action 'get'"),
    ],
)
def test_wrong_arguments(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_fails_outside_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = FakeArchive(tmp_path / "fake", monkeypatch)
    assert main(["data", "fetch", "asterisk", "--out", str(tmp_path / "set")]) == 1
    assert "accept another with --any-version" in capsys.readouterr().err
    archive.without("apt-get")
    assert main(["data", "fetch", "asterisk", "--out", str(tmp_path / "set")]) == 1
    assert "no program `apt-get` on PATH" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    assert main(["data", "fetch", "asterisk", "--out", str(tmp_path / "mine")]) == 1
    assert "holds no benchmark set: choose another --out" in capsys.readouterr().err
