from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pytest

from trimask.cli.arguments import Verb, parse
from trimask.cli.failure import UsageError


@final
@dataclass(frozen=True, kw_only=True)
class Fly(Verb):
    """Fly."""

    takes_overrides: ClassVar[bool] = True

    num_wings: int = 2
    """how many"""
    is_high: bool = False
    """up"""

    def run(self, overrides: Mapping[str, str]) -> int:
        return 0


@final
@dataclass(frozen=True, kw_only=True)
class Walk(Verb):
    """Walk."""

    num_legs: int = 2
    """how many"""

    def run(self, overrides: Mapping[str, str]) -> int:
        return 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.depth", "6"], {"model.depth": "6"}),
        (["--model.depth=6", "--seed", "-3"], {"model.depth": "6", "seed": "-3"}),
        (["--optimizer.learning-rate", "1e-3"], {"optimizer.learning_rate": "1e-3"}),
        (["--data.voices=slt,rms"], {"data.voices": "slt,rms"}),
        (["--note="], {"note": ""}),
    ],
)
def test_options_of_others_are_overrides(words: list[str], expected: dict[str, str]) -> None:
    for whole in ([*words, "--num-wings", "4"], ["--num_wings=4", *words]):
        arguments, overrides = parse(Fly, "fly", whole)
        assert arguments.num_wings == 4
        assert overrides == expected


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        (Fly, ["--model.depth"], "--model.depth has no value: give one: --model.depth VALUE"),
        (Fly, ["--model.depth", "--is-high"], "--model.depth has no value"),
        (Fly, ["--a.b", "1", "--a.b", "2"], "given twice: '1' and '2'"),
        (Fly, ["--num-wing", "3"], "unknown option --num-wing: did you mean --num-wings?"),
        (Fly, ["--num-wings", "x"], "--num-wings"),
        (
            Walk,
            ["--num-legs", "3", "--pace", "4"],
            "unknown option --pace: the options are --help, --num-legs",
        ),
        (Walk, ["--num-leg", "3"], "did you mean --num-legs?"),
        (Walk, ["far"], "Unrecognized options: far"),
    ],
)
def test_wrong_words_get_one_line(verb: type[Verb], words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(verb, "move", words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Walk, "walk", ["--help"])
    assert not stop.value.code
    assert "--num-legs" in capsys.readouterr().out
