"""Arguments that no one means: each ends in one line, soon, and nothing is allocated for it."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest

from trimask.cli import main
from trimask.cli.entry import VERBS, _load_verb
from trimask.config import ConfigError, from_dict, override, to_dict
from trimask.data.mixture import MixtureConfig
from trimask.data.selection import StatedData
from trimask.data.stream import SpanSlack
from trimask.recipes.catalog import resolve
from trimask.recipes.quickstart import debug
from trimask.training.run import RunConfig

HOSTILE = (
    *("nan", "inf", "-1", "0", "1000000000", "1000000000000000000000", "1e308", "1e-320"),
    *("", "\0", "\udcff", "x" * 5000, "gone/gone", "file", "folder", "/dev/null", "none", "[]", '{"a":1}'),
)
NUMBERS = HOSTILE[:8]
BASE = {
    "show": ["trimodal_3b"],
    "plan": ["trimodal_3b"],
    "train": ["trimodal_3b", "--out", "out"],  # its data is stated: it never starts
    "export": ["gone", "--out", "out.safetensors"],
    "sample": ["gone", "--task", "text"],
    "evaluate": ["gone"],
    "study": ["plan", "batch_invariance", "--short"],
    "data": ["fetch", "gone"],
    "demo": ["--minutes", "nan"],
    "prepare": ["gone", "--out", "out"],
    "tokenizers": ["gone"],
    "list": [],
    "lm-eval": ["ls"],
    "serve": ["gone"],
}

# What they ask for is short to say, and long to do.
REAL = {("demo", "minutes", "0"), ("demo", "minutes", "1e-320")}


def _fields(module: str) -> tuple[dataclasses.Field[Any], ...]:
    verb = _load_verb(module)
    assert dataclasses.is_dataclass(verb)
    return dataclasses.fields(verb)


def cases() -> list[tuple[str, str]]:
    """Each option of each verb that takes a value."""
    return [
        (verb, field.name)
        for verb, (module, _) in VERBS.items()
        for field in _fields(module)
        if "bool" not in str(field.type)
    ]


def words(verb: str, name: str, value: str) -> list[str]:
    on_the_line = _load_verb(VERBS[verb][0]).renamed.get(name, name)
    option, rest = f"--{on_the_line.replace('_', '-')}", list(BASE[verb])
    positional = [field.name for field in _fields(VERBS[verb][0]) if "Positional" in str(field.type)]
    if name in positional:
        place = positional.index(name)
        return [verb, *rest[:place], value, *rest[place + 1 :]]
    if option in rest:
        rest[rest.index(option) + 1] = value
        return [verb, *rest]
    return [verb, *rest, option, value]


def ends_in_a_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(given)
    except SystemExit as stop:
        status = stop.code
    lines = capsys.readouterr().err.splitlines()
    assert status in (0, 1, 2), given
    if status:  # work that began may have told of its progress before
        errors = [line for line in lines if line.startswith("trimask: error: ")]
        assert errors and errors[-1] == lines[-1], (given, lines)
    assert all(line.startswith("trimask: ") and len(line) < 1200 for line in lines), (given, lines)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("folder").mkdir()


@pytest.mark.slow
@pytest.mark.parametrize("verb", [verb for verb in VERBS if not _load_verb(VERBS[verb][0]).takes_all_words])
def test_each_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for of, name in cases() if of == verb]:
        for value in HOSTILE:
            if (verb, name, value) not in REAL:
                ends_in_a_line(words(verb, name, value), capsys)


def test_what_is_empty_or_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, name in cases():
        for value, problem in (
            ("", "is empty"),
            ("a\0b", "is not UTF-8 text"),
            ("\udcff", "is not UTF-8 text"),
        ):
            assert main(words(verb, name, value)) == 2
            problem = "is not UTF-8 text" if value else "is empty"
            assert problem in capsys.readouterr().err, (verb, name)
    assert sorted(os.listdir()) == ["file", "folder"]


def leaves(value: object, path: str = "") -> list[str]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    below = [leaf for name, item in children for leaf in leaves(item, f"{path}.{name}".lstrip("."))]
    return below or [path]


@pytest.mark.parametrize("recipe", ["trimodal_3b", "image_tokenizer", "speech_tokenizer"])
@pytest.mark.slow
def test_each_field_of_a_recipe(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path in leaves(to_dict(resolve(recipe))):
        if not path.endswith("type"):
            for value in NUMBERS:
                ends_in_a_line(["show", recipe, f"--{path}={value}"], capsys)


@pytest.mark.parametrize(
    "path",
    [
        *["model.width", "model.depth", "model.num_heads", "physical_batch", "logical_batch", "row_length"],
        *["data.text_window", "compute.micro_batch", "compute.data_workers"],
    ],
)
def test_no_size_beyond_all_machines(path: str) -> None:
    config = resolve("debug")
    for value in ("1000000000", "1000000000000000000000"):
        with pytest.raises(ConfigError, match=rf"^{re.escape(path)} = {value} .*at most"):
            override(config, {path: value})


def test_no_filled_length_beyond_all_machines() -> None:
    with pytest.raises(ConfigError, match=r"SpanSlack\.filled\.image_to_text is 1000000000: .*at most"):
        override(debug(), {"slack.filled.image_to_text": "1000000000"})


@pytest.mark.parametrize(
    "path", ["slack.filled.image_to_text", "slack.minimum", "mixture.block_length", "model.width"]
)
def test_no_size_beyond_all_machines_in_a_file_either(path: str) -> None:
    """A run's config.json is read without the command line."""
    stored = to_dict(resolve("debug"))
    *outer, name = path.split(".")
    holder = stored
    for step in outer:
        holder = holder[step]
    holder[name] = 10**9
    with pytest.raises(ConfigError, match="at most"):
        from_dict(RunConfig, stored)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("sources.0.lengths.text", 2**22 + 1, "an example has 4,194,305 codes"),
        ("sources.2.lengths.speech", 86_400.5, "give at most 86,400"),
        ("sources.2.lengths.speech", 86_400.0, "an example has 17,280,"),
        ("spaces.1.grid", [4096, 4096], "an example has 16,777,"),
    ],
)
def test_no_stated_example_is_larger_than_memory(path: str, value: object, problem: str) -> None:
    stored: Any = to_dict(resolve("trimodal_3b").data)
    *outer, name = path.split(".")
    holder = stored
    for step in outer:
        holder = holder[int(step) if step.isdigit() else step]
    holder[name] = value
    with pytest.raises(ConfigError, match=problem):
        from_dict(StatedData, stored)


def test_no_size_beyond_all_machines_in_code() -> None:
    components = debug().mixture.components
    for make in (
        lambda: SpanSlack(filled={"image_to_text": 10**9}),
        lambda: SpanSlack(minimum=10**9),
        lambda: SpanSlack(fraction=1e308),
        lambda: SpanSlack(fraction=float("nan")),
        lambda: SpanSlack(filled={"image_to_text": -1}),
        lambda: MixtureConfig(components=components, block_length=10**9),
    ):
        with pytest.raises(ValueError, match=r"give at least \d and at most"):
            make()
