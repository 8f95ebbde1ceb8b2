"""Configurations: round trips, and errors that name the path, the value and what would be right."""

import enum
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimask.config import ConfigError, fingerprint, from_dict, override, to_dict


class Colour(enum.StrEnum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Curve(ABC):
    @abstractmethod
    def at(self, t: float) -> float: ...


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Line(Curve):
    def at(self, t: float) -> float:
        return t


class Shaped(Curve):
    """An interface under an interface."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Power(Shaped):
    exponent: float = 2.0

    def at(self, t: float) -> float:
        return t**self.exponent


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Mixed(Curve):
    first: Curve
    second: Curve
    share: float = 0.5

    def at(self, t: float) -> float:
        return self.share * self.first.at(t) + (1 - self.share) * self.second.at(t)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Net:
    depth: int
    width: int = 8
    betas: tuple[float, float] = (0.9, 0.99)
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.width % self.depth:
            raise ValueError(f"width {self.width} must be a multiple of depth {self.depth}")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Small:
    size: int = 1


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Large:
    size: int = 100


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    net: Net
    curves: dict[str, Curve]
    main: Curve = field(default_factory=Line)
    spare: Curve | None = None
    shaped: Shaped | None = None
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    precision: Literal["fp32", "bf16"] = "fp32"
    count: Literal[1, 2, 4] = 1
    out: Path | None = None
    name: str = "run"
    is_dry: bool = False
    phases: tuple[Net, ...] = ()
    sizes: tuple[int, ...] = (1, 2)
    tags: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    either: Small | Large = field(default_factory=Small)
    seed: int | str = 0


HERE = __name__  # classes that are not ours are stored with their module
RUN = Run(
    net=Net(depth=2),
    curves={"text": Line(), "image": Power(exponent=3.0)},
    phases=(Net(depth=4), Net(depth=1)),
    weights={"text": 0.25, "image": 0.75},
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1, max_size=5)
sizes = st.integers(max_value=1 << 20)  # of what could be built on some machine
nets = st.builds(
    lambda depth, times, betas, dropout: Net(depth=depth, width=depth * times, betas=betas, dropout=dropout),
    st.integers(1, 9),
    st.integers(0, 9),
    st.tuples(numbers, numbers),
    st.none() | numbers,
)
powers = st.builds(Power, exponent=numbers)
curves = st.recursive(
    st.just(Line()) | powers,
    lambda inner: st.builds(Mixed, first=inner, second=inner, share=numbers),
    max_leaves=4,
)
runs = st.builds(
    Run,
    net=nets,
    curves=st.dictionaries(names, curves, max_size=3),
    main=curves,
    spare=st.none() | curves,
    shaped=st.none() | powers,
    colour=st.sampled_from(Colour),
    level=st.sampled_from(Level),
    precision=st.sampled_from(["fp32", "bf16"]),
    count=st.sampled_from([1, 2, 4]),
    out=st.none() | st.sampled_from([Path("."), Path("a/b"), Path("/c")]),
    name=st.text(),
    is_dry=st.booleans(),
    phases=st.lists(nets, max_size=3).map(tuple),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    tags=st.lists(st.text(), max_size=2).map(tuple),
    weights=st.dictionaries(st.text(), numbers, max_size=3),
    either=st.builds(Small, size=sizes) | st.builds(Large, size=sizes),
    seed=st.integers() | st.text(),
)


@given(runs)
def test_round_trip_through_json(run: Run) -> None:
    text = json.dumps(to_dict(run), allow_nan=False)
    again = from_dict(Run, json.loads(text))
    assert again == run
    assert fingerprint(again) == fingerprint(run)


def test_a_size_that_no_machine_holds_is_refused_in_a_file() -> None:
    stored = to_dict(RUN)
    stored["either"]["size"] = (1 << 20) + 1
    with pytest.raises(ConfigError, match=r"either.size = 1048577 .*at most 1,048,576"):
        from_dict(Run, stored)


def test_what_is_stored() -> None:
    stored = to_dict(RUN)
    assert stored["net"] == {"depth": 2, "width": 8, "betas": [0.9, 0.99], "dropout": None}
    curves = {"text": {"type": f"{HERE}:Line"}, "image": {"type": f"{HERE}:Power", "exponent": 3.0}}
    assert stored["curves"] == curves
    assert stored["either"] == {"type": f"{HERE}:Small", "size": 1}
    assert (stored["colour"], stored["level"], stored["out"]) == ("red", "LOW", None)


def test_defaults_may_be_left_out() -> None:
    stored = {"net": {"depth": 2}, "curves": {}}
    assert from_dict(Run, stored) == Run(net=Net(depth=2), curves={})


def test_a_whole_number_becomes_a_float_both_ways() -> None:
    assert to_dict(Power(exponent=3)) == {"exponent": 3.0}
    assert type(to_dict(Power(exponent=3))["exponent"]) is float
    assert type(from_dict(Power, {"exponent": 3}).exponent) is float
    assert fingerprint(Power(exponent=3)) == fingerprint(Power(exponent=3.0))


def test_fingerprint() -> None:
    assert fingerprint(RUN) == "01a449ffa762b89e"  # stored in runs: it may not drift
    assert fingerprint(RUN) != fingerprint(replace(RUN, name="other"))
    assert fingerprint(replace(RUN, main=Power())) != fingerprint(RUN)
    reordered = replace(RUN, weights=dict(reversed(RUN.weights.items())))
    assert fingerprint(reordered) == fingerprint(RUN)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("net"), "net is missing: Run needs an object (Net) there"),
        (lambda d: d["net"].pop("depth"), "net.depth is missing: Net needs a whole number there"),
        (lambda d: d["phases"][1].pop("depth"), "phases.1.depth is missing"),
        (lambda d: d["net"].update(dpeth=3), "net.dpeth = 3 (int): Net has no such field"),
        (lambda d: d["net"].update(dpeth=3), "did you mean depth"),
        (lambda d: d["net"].update(depth="6"), "net.depth = '6' (str): expected a whole number"),
        (lambda d: d["net"].update(depth=2.0), "net.depth = 2.0 (float): expected a whole number"),
        (lambda d: d["net"].update(depth=True), "net.depth = True (bool): expected a whole number"),
        (lambda d: d["net"].update(depth=None), "net.depth = None (NoneType): expected a whole number"),
        (lambda d: d["net"].update(dropout="x"), "net.dropout = 'x' (str): expected a number or null"),
        (lambda d: d["net"].update(dropout=True), "net.dropout = True (bool): expected a number or null"),
        (lambda d: d["net"].update(dropout=float("nan")), "net.dropout = nan (float): expected a finite"),
        (lambda d: d["net"].update(betas=[1.0]), "net.betas = [1.0] (list): expected 2 items, not 1"),
        (lambda d: d["net"].update(betas=[1.0, "x"]), "net.betas.1 = 'x' (str): expected a number"),
        (
            lambda d: d["net"].update(betas=0.9),
            "net.betas = 0.9 (float): expected a list: a number, a number",
        ),
        (lambda d: d["net"].update(width=3), "net: width 3 must be a multiple of depth 2"),
        (lambda d: d["phases"][0].update(depth=3), "phases.0: width 8 must be"),
        (lambda d: d.update(net=3), "net = 3 (int): expected an object (Net)"),
        (lambda d: d.update(net=None), "net = None (NoneType): expected an object (Net)"),
        (lambda d: d.update(is_dry=1), "is_dry = 1 (int): expected true or false"),
        (lambda d: d.update(name=1), "name = 1 (int): expected a string"),
        (lambda d: d.update(out=1), "out = 1 (int): expected a path or null"),
        (
            lambda d: d.update(colour="rde"),
            "colour = 'rde' (str): expected one of red, dark blue (did you mean red?)",
        ),
        (lambda d: d.update(level=1), "level = 1 (int): expected one of 'LOW', 'HIGH'"),
        (lambda d: d.update(precision="fp16"), "precision = 'fp16' (str): expected one of 'fp32', 'bf16'"),
        (lambda d: d.update(count=True), "count = True (bool): expected one of 1, 2, 4"),
        (lambda d: d.update(sizes=5), "sizes = 5 (int): expected a list, each a whole number"),
        (lambda d: d.update(weights=[1]), "weights = [1] (list): expected an object by name, each a number"),
        (lambda d: d["weights"].update(text="1"), "weights.text = '1' (str): expected a number"),
        (
            lambda d: d["main"].update(type="Lime"),
            "main.type = 'Lime' (str): expected one of Line, Mixed, Power (did",
        ),
        (
            lambda d: d["main"].update(type="Shaped"),
            "main.type = 'Shaped' (str): expected one of Line, Mixed, Power",
        ),
        (lambda d: d["main"].pop("type"), "main.type = None (NoneType): expected one of Line, Mixed, Power"),
        (
            lambda d: d["curves"]["image"].update(exponent="x"),
            "curves.image.exponent = 'x' (str): expected a number",
        ),
        (lambda d: d.update(shaped={"type": "Line"}), "shaped.type = 'Line' (str): expected Power"),
        (
            lambda d: d["either"].update(type="Medium"),
            "either.type = 'Medium' (str): expected one of Large, Small",
        ),
        (lambda d: d.update(name=["x" * 500]), "…"),
    ],
)
def test_what_does_not_fit_is_named(damage: Callable[[dict[str, Any]], Any], message: str) -> None:
    stored = to_dict(RUN)
    damage(stored)
    with pytest.raises(ConfigError) as caught:
        from_dict(Run, stored)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [None, 3, "x", [1]])
def test_no_object_at_all(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"the configuration = .*expected an object \(Run\)"):
        from_dict(Run, data)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Stranger:
    at: int = 0


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (replace(RUN, name=3), "name = 3 (int): expected a string"),
        (replace(RUN, net=None), "net = None (NoneType): expected an object (Net)"),
        (replace(RUN, main=Stranger()), f"expected a subclass of {__name__}.Curve"),
        (replace(RUN, sizes=[1, 2]), "sizes = [1, 2] (list): a list could be changed: use a tuple, (1, 2)"),
        (replace(RUN, weights={"a": float("inf")}), "weights.a = inf (float): expected a finite number"),
    ],
)
def test_values_that_cannot_be_stored(run: Run, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_dict(run)
    assert message in str(caught.value)


def test_only_dataclasses_are_configurations() -> None:
    for thing in (Run, {"a": 1}, None):
        with pytest.raises(ConfigError, match="is not a configuration"):
            to_dict(thing)


# Overrides.


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("net.depth", "4", 4),
        ("net.dropout", "0.1", 0.1),
        ("net.dropout", "1", 1.0),
        ("net.dropout", "1e-3", 0.001),
        ("net.dropout", "none", None),
        ("net.betas", "0.8,0.95", (0.8, 0.95)),
        ("net.betas", "(0.8, 0.95)", (0.8, 0.95)),
        ("net.betas.1", "0.5", 0.5),
        ("sizes", "", ()),
        ("sizes", "3", (3,)),
        ("tags", "a, b", ("a", "b")),
        ("curves.image.exponent", "4", 4.0),
        ("weights.text", "2", 2.0),
        ("phases.1.depth", "2", 2),
        ("phases.0.betas", "1,2", (1.0, 2.0)),
        ("colour", "dark blue", Colour.DARK_BLUE),
        ("level", "HIGH", Level.HIGH),
        ("precision", "bf16", "bf16"),
        ("count", "4", 4),
        ("out", "a/b", Path("a/b")),
        ("name", "none", "none"),
        ("name", "6", "6"),
        ("name", "true", "true"),
        ("is_dry", "true", True),
        ("is_dry", "False", False),
        ("either.size", "7", 7),
        ("seed", "5", 5),
        ("seed", "five", "five"),
    ],
)
def test_override(path: str, text: str, expected: object) -> None:
    changed = override(RUN, {path: text})
    value: Any = changed
    for name in path.split("."):
        value = (
            value[int(name)]
            if isinstance(value, tuple)
            else value[name]
            if isinstance(value, dict)
            else getattr(value, name)
        )
    assert value == expected and type(value) is type(expected)
    assert type(changed) is Run and to_dict(RUN) == to_dict(RUN)


def test_overrides_are_checked_together() -> None:
    changed = override(RUN, {"net.depth": "3", "net.width": "12"})
    assert (changed.net.depth, changed.net.width) == (3, 12)
    with pytest.raises(ConfigError, match="net: width 8 must be a multiple of depth 3"):
        override(RUN, {"net.depth": "3"})


def test_a_class_is_chosen_by_its_name() -> None:
    assert override(RUN, {"main": "Power"}).main == Power()
    assert override(RUN, {"curves.text": "Power", "curves.text.exponent": "3"}).curves["text"] == Power(
        exponent=3
    )
    assert override(RUN, {"spare": "Line"}).spare == Line()
    assert override(RUN, {"either": "Large"}).either == Large()
    kept = override(RUN, {"curves.image": "Power"})  # it is that already
    assert kept.curves["image"] == Power(exponent=3.0)


def test_fields_below_may_come_first_and_may_have_no_default() -> None:
    values = {
        "main.second.exponent": "4",
        "main.first": "Line",
        "main.second": "Power",
        "main": "Mixed",
        "main.share": "0.25",
    }
    expected = Mixed(first=Line(), second=Power(exponent=4.0), share=0.25)
    assert override(RUN, values).main == expected
    with pytest.raises(ConfigError, match=r"main.second is missing: Mixed needs"):
        override(RUN, {"main": "Mixed", "main.first": "Line"})


def test_a_group_that_is_null_is_made_by_its_fields() -> None:
    @final
    @dataclass(frozen=True)
    class Holder:
        net: Net | None = None

    assert override(Holder(), {"net.depth": "4"}).net == Net(depth=4)
    with pytest.raises(ConfigError, match=r"net.depth is missing"):
        override(Holder(), {"net.width": "4"})
    assert override(Holder(net=Net(depth=2)), {"net": "none"}).net is None


def test_a_group_may_be_made_by_the_name_of_its_class() -> None:
    @final
    @dataclass(frozen=True)
    class Holder:
        small: Small | None = None

    assert override(Holder(), {"small": "Small"}).small == Small()
    assert override(Holder(), {"small": "Small", "small.size": "3"}).small == Small(size=3)
    assert override(Holder(small=Small(size=4)), {"small": "Small"}).small == Small(size=4)


def test_a_list_of_classes() -> None:
    @final
    @dataclass(frozen=True)
    class Holder:
        curves: tuple[Curve, ...] = ()

    changed = override(Holder(), {"curves": "Line,Power", "curves.1.exponent": "5"})
    assert changed.curves == (Line(), Power(exponent=5.0))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Nested:
    number: int = 1
    curve: Curve = Power()
    within: "dict[str, Nested]" = field(default_factory=dict)


def test_settings_within_settings_begin_as_a_copy() -> None:
    """With the other changes of what is around them, whichever comes first."""
    changes = {"within.a.number": "5", "curve.exponent": "3", "within.b.curve": "Line", "number": "2"}
    for names in (list(changes), list(changes)[::-1]):
        found = override(Nested(), {name: changes[name] for name in names})
        a, b = Nested(number=5, curve=Power(exponent=3.0)), Nested(number=2, curve=Line())
        assert found == Nested(number=2, curve=Power(exponent=3.0), within={"a": a, "b": b})
    again = override(found, {"within.a.number": "6", "number": "9"})
    assert again.within["a"] == replace(a, number=6) and again.within["b"] == b and again.number == 9
    assert from_dict(Nested, to_dict(found)) == found
    with pytest.raises(ConfigError, match=r"within.a has only one of number, curve, within"):
        override(Nested(), {"within.a.numbr": "5"})


def test_no_overrides_change_nothing() -> None:
    assert override(RUN, {}) == RUN


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (
            "net.dpth",
            "6",
            "net.dpth = '6' (str): net has only one of depth, width, betas, dropout (did you mean depth",
        ),
        ("nett.depth", "6", "nett = '6' (str): the configuration has only one of net"),
        ("", "6", "the configuration has only one of"),
        (
            "width",
            "6",
            "there is no field of this name: set one of net.width, phases.0.width, phases.1.width",
        ),
        ("net.depth.x", "6", "net.depth has no fields"),
        ("net.depth", "6.0", "net.depth = '6.0' (str): expected a whole number"),
        ("net.depth", "true", "net.depth = 'true' (str): expected a whole number"),
        ("net.depth", "", "net.depth = '' (str): expected a whole number"),
        ("net.depth", "none", "net.depth = 'none' (str): expected a whole number"),
        ("net.dropout", "inf", "net.dropout = 'inf' (str): expected a number or null"),
        ("net.betas", "0.9", "net.betas = ['0.9'] (list): expected 2 items, not 1"),
        ("net.betas", "0.9,x", "net.betas.1 = 'x' (str): expected a number"),
        ("net", "6", "it is a group of fields, set one of net.depth, net.width, net.betas, net.dropout"),
        ("net", "none", "it is a group of fields and cannot be none, set one of net.depth, net.width"),
        ("main", "Pwer", "expected one of Line, Mixed, Power (did you mean Power?)"),
        ("main", "none", "expected one of Line, Mixed, Power"),
        ("either", "Middle", "expected one of Large, Small"),
        ("shaped", "Line", "expected Power, and its fields below (shaped.…)"),
        ("shaped.exponent", "2", "shaped = None (NoneType): choose its class first, Power"),
        ("main.exponent", "2", "main has no fields"),
        ("curves", "x", "it is a group of fields, set one of curves.text, curves.image"),
        ("curves.txt", "x", "curves has only one of text, image (did you mean text?)"),
        ("phases.2.depth", "1", "phases has only one of 0, 1"),
        ("colour", "blue", "expected one of red, dark blue (did you mean dark blue?)"),
        ("precision", "bf61", "expected one of fp32, bf16 (did you mean bf16?)"),
        ("is_dry", "yes", "is_dry = 'yes' (str): expected true or false"),
    ],
)
def test_bad_overrides_are_named(path: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RUN, {path: text})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Users' classes.


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            dict[int, int],
            "x has the type dict[int, int], which a configuration cannot store: use int, float,",
        ),
        (list[int], "x has the type list[int], which"),
        (list, "x has the type list, which"),
        (set[str] | bytes, "x has the type set[str] | bytes, which"),
        (tuple[complex, ...], "x has the type tuple[complex, ...], which"),
        (TypeVar("T"), "x has the type ~T, which"),
        (
            "Nowhere_",
            "x has the type 'Nowhere_', which cannot be resolved (NameError: name 'Nowhere_' is not",
        ),
        ("int +", "x has the type 'int +', which cannot be resolved (SyntaxError"),
    ],
)
def test_types_that_cannot_be_stored_are_named(annotation: Any, message: str) -> None:
    odd = make_dataclass("Odd", [("y", int, 0), ("x", annotation, None)], frozen=True)
    odd.__module__ = __name__
    for read in (
        lambda: to_dict(odd()),
        lambda: from_dict(odd, {"y": 1}),
        lambda: override(odd(), {"y": "2"}),
    ):
        with pytest.raises(ConfigError) as caught:
            read()
        assert f"Odd.{message}" in str(caught.value)


def test_optional_values_that_cannot_be_stored() -> None:
    holder = make_dataclass("Holder", [("x", dict[int, int] | None, None)])
    assert to_dict(holder()) == {"x": None}
    with pytest.raises(ConfigError, match=r"x = \{1: 2\} \(dict\): only a dict\[str, X\] can be stored: use"):
        to_dict(holder({1: 2}))


def test_defaults_that_cannot_be_stored_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_dataclass(
        "Listed",
        [("sizes", tuple[int, ...], field(default_factory=lambda: [1, 2]))],
        bases=(Curve,),
        frozen=True,
    )
    listed = final(type("Listed", (made,), {"at": lambda self, t: t, "__module__": __name__}))
    monkeypatch.setitem(globals(), "Listed", listed)
    with pytest.raises(ConfigError, match=r"Listed.sizes = \[1, 2\] \(list\): .*use a tuple, \(1, 2\)"):
        override(RUN, {"main": "Listed"})


@final
@dataclass(frozen=True)
class _SecondIsUnresolved:
    shared: "ClassVar[int]" = 1  # only valid in a class
    near: "int" = 0
    far: "Nowhere_ | None" = None  # pyright: ignore[reportUndefinedVariable]


def test_of_several_annotations_the_unresolved_one_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"_SecondIsUnresolved\.far has the type 'Nowhere_ \| None'.*NameError"
    ):
        to_dict(_SecondIsUnresolved())
