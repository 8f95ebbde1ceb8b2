from pathlib import Path

import pytest

from trimask import modules
from trimask.errors import UserError
from trimask.laws.catalog import LAWS, resolve_law
from trimask.laws.scaling import Bounded, Chinchilla

BAD = """
from dataclasses import dataclass
from trimask.laws.scaling import PowerLaw


@dataclass(frozen=True)
class Slow(PowerLaw):
    formula = "slow"
    half: float

    def columns(self, inputs, exponents, losses):
        raise RuntimeError

    @classmethod
    def for_columns(cls, names, **options):
        raise RuntimeError("of its own")
"""


def test_ours_by_name_with_their_options():
    assert "scaling" in LAWS
    assert resolve_law("scaling", ["n", "d"], {}) == Chinchilla()
    assert resolve_law("scaling", ["d", "n"], {"ceiling": "8.5"}) == Bounded(ceiling=8.5)
    assert resolve_law("scaling", ["n", "d", "u"], {}).inputs == ("n", "d", "u")


def test_what_is_no_law_or_needs_more(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(BAD)
    for name, columns, options, message in (
        ("scalling", ["n", "d"], {}, "unknown law 'scalling'"),
        ("trimask.laws.scaling:Bounded", ["n", "d"], {}, "Bounded needs --ceiling: give a number"),
        ("trimask.laws.scaling:EXPONENTS", ["n", "d"], {}, "is no law: name a subclass"),
        ("scaling", ["n"], {}, "scaling is a law of n, d: name the column of d too"),
        ("scaling", ["n", "d", "x"], {}, "has no use for x"),
        ("scaling", ["n", "d"], {"ceiling": "x"}, "--ceiling is 'x': give a number"),
        (f"{path}:Slow", ["n", "d"], {"half": "1"}, "mine.py:Slow failed"),
        (
            f"{path}:Slow",
            ["n", "d"],
            {"whole": "1"},
            "mine.py:Slow has no option --whole: its options are --half",
        ),
    ):
        with pytest.raises(UserError) as raised:
            resolve_law(name, columns, options)
        assert message in str(raised.value)


def test_a_law_of_ours_named_by_module_stays_ours():
    """Else errors of trimask would be reported as faults in the user's code, here and in later commands."""
    assert isinstance(resolve_law("trimask.laws.scaling:Chinchilla", ["n", "d"], {}), Chinchilla)
    assert not modules.is_users(vars(modules))
