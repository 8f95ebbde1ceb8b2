"""Kinds of data: ours, one of the user's own in the user's own file, and one that nothing is known of."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import pytest

from trimask import io
from trimask.cli import main
from trimask.data.selection import Data, PreparedData, QuickstartData
from trimask.errors import UserError
from trimask.recipes.quickstart import debug
from trimask.recipes.reference import pilot_320m
from trimask.runs.kinds import kind_of

MINE = '''
"""Random letters instead of texts."""

from dataclasses import dataclass, replace
from typing import final

from trimask.data.mixture import Component, MixtureConfig
from trimask.data.random_codes import RandomCodes
from trimask.data.selection import Data, StatedSource
from trimask.recipes.quickstart import debug
from trimask.runs.kind import Kind
from trimask.runs.kinds import kind_of
from trimask.runs.sizes import counted_sizes


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Letters(Data):
    """Texts of `length` random ids."""

    length: int = 12
    text_window: int = 32

    def without_places(self):
        return self


class LettersKind(Kind):
    def __init__(self, data):
        self.data = data

    def sources(self, tokenizers, split, cache, report=lambda message: None):
        stated = StatedSource(name="letters", lengths={"text": self.data.length})
        seed = ["train", "validation"].index(split)
        return {"letters": RandomCodes(stated, tokenizers.spaces, num_examples=40, seed=seed)}

    def sizes(self, tokenizers, group_exponent):
        return counted_sizes(self.sources(tokenizers, "train", None), group_exponent)


@kind_of.register
def _(data: Letters) -> Kind:
    return LettersKind(data)


def letters():
    """Learn random letters."""
    component = Component(source="letters", task="text", weight=1.0)
    return replace(debug(), data=Letters(), mixture=MixtureConfig(components=(component,)))
'''


def test_data_of_ones_own_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, run = tmp_path / "mine.py", tmp_path / "run"
    module.write_text(MINE)
    words = ["--num-steps", "2", "--data.length", "9"]
    assert main(["show", f"{module}:letters", *words]) == 0
    assert "letters" in capsys.readouterr().out
    assert main(["train", f"{module}:letters", "--out", str(run), *words]) == 0
    stored = io.read_json(run / "config.json")["run"]["data"]
    assert stored["type"].endswith(":Letters") and stored["length"] == 9
    assert main(["train", "--out", str(run), "--resume", "--num-steps", "3"]) == 0
    capsys.readouterr()
    assert main(["train", "--out", str(run), "--resume", "--data", str(tmp_path)]) != 0
    assert "the run is not on prepared data: leave --data out" in capsys.readouterr().err
    sample = ["sample", str(run), "--task", "text", "--span-length", "8", "--num-steps", "2"]
    assert main([*sample, "--out", str(tmp_path / "samples")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--out", str(tmp_path / "scores.json")]) != 0
    assert "only runs on embedded or prepared data can be scored" in capsys.readouterr().err


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Unread(Data):
    text_window: int = 8

    def without_places(self) -> "Unread":
        return self


def test_data_that_nothing_is_known_of_is_named() -> None:
    with pytest.raises(UserError, match="Unread does not say how it is read"):
        kind_of(Unread())


def test_what_each_kind_is() -> None:
    prepared = PreparedData(folders=(Path("/there/mine"),), manifests=("0",), text_window=8)
    stated = pilot_320m().data
    known = [debug().data, prepared, stated]
    assert [kind_of(data).is_there for data in known] == [True, True, False]
    assert [kind_of(data).folders for data in known] == [(), prepared.folders, ()]
    assert [kind_of(data).embedded for data in known] == [known[0], None, None]
    for data in (known[0], stated):
        with pytest.raises(UserError, match="leave --data out"):
            kind_of(data).moved([Path("elsewhere")])


def test_exported_weights_tell_names_not_places() -> None:
    prepared = PreparedData(folders=(Path("/there/mine"),), manifests=("0",), text_window=8)
    assert prepared.without_places() == replace(prepared, folders=(Path("mine"),))
    data = QuickstartData(readings=Path("/there/readings"))
    assert data.without_places() == replace(data, readings=Path("readings"))
    assert QuickstartData().without_places() == QuickstartData()
