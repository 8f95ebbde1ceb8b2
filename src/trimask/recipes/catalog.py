"""The recipes and studies by name: ours, or a function of a user's own, `mine.py:name` or
`package.module:name`. Listing ours imports none of them: purposes are read from the sources.
"""

import ast
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from trimask import modules
from trimask.errors import UserError

if TYPE_CHECKING:
    from trimask.recipes.studies.study import Study
    from trimask.recipes.text_tokenizer import TextTokenizerRun
    from trimask.recipes.tokenizer_training import TokenizerRun
    from trimask.training.run import RunConfig

    Recipe = RunConfig | TokenizerRun | TextTokenizerRun

T = TypeVar("T")

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "debug": "quickstart",
        "quickstart_mini": "quickstart",
        "quickstart": "quickstart",
        "pilot_320m": "reference",
        "trimodal_1b": "reference",
        "trimodal_3b": "reference",
        "text_tokenizer": "text_tokenizer",
        "image_tokenizer": "image_tokenizer",
        "image_tokenizer_fine": "image_tokenizer",
        "image_tokenizer_128px": "image_tokenizer",
        "speech_tokenizer": "speech_tokenizer",
        "speech_tokenizer_fine": "speech_tokenizer",
    }
)
"""Recipe -> the module of this package that has a function of this name, which takes nothing and returns the
`RunConfig`, or what a tokenizer's run is.
"""

STUDIES = ("coordinate_check", "lr_transfer", "batch_invariance", "horizon")
"""Each has a module of its name in `studies`, with a function of its name and one of its short form."""


def purpose(name: str) -> str:
    """The first sentence of the docstring of a recipe or study; of one of the user's own that has none, its
    name.

    Raises:
        UserError: no recipe has this name.
    """
    if modules.is_own(name):
        return _first_sentence(inspect.getdoc(modules.load(name)) or modules.label(name))
    module = f"studies/{name}" if name in STUDIES else _module(name)
    source = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _first_sentence(ast.get_docstring(node) or "")
    raise AssertionError(f"the module of {name} has no function of that name")


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?]) ", paragraph, maxsplit=1)[0].rstrip(".")


def resolve(name: str) -> "Recipe":
    """The recipe's configuration.

    Raises:
        UserError: no recipe has this name (the message names the closest), or one of the user's own fails or
            returns something else.
    """
    if modules.is_own(name):
        from trimask.recipes.text_tokenizer import TextTokenizerRun
        from trimask.training.image_tokenizer import ImageTokenizerRun
        from trimask.training.run import RunConfig
        from trimask.training.speech_tokenizer import SpeechTokenizerRun

        kinds = (RunConfig, ImageTokenizerRun, SpeechTokenizerRun, TextTokenizerRun)
        return _made(name, kinds, "a RunConfig, or a tokenizer's run")
    module = importlib.import_module(f"trimask.recipes.{_module(name)}")
    recipe: Callable[[], Recipe] = getattr(module, name)
    return recipe()


def resolve_study(name: str, *, is_short: bool) -> "Study":
    """The study, or its short form: minutes on a laptop. Raises as `resolve`."""
    short = f"{name}_short" if is_short else name
    if modules.is_own(name):
        return _made(short, (importlib.import_module("trimask.recipes.studies.study").Study,), "a Study")
    module = importlib.import_module(f"trimask.recipes.studies.{name}")
    study: Callable[[], Study] = getattr(module, short)
    return study()


def _made(name: str, kinds: tuple[type[T], ...], what: str) -> T:
    """What the user's own function `name` returns."""
    function = modules.load(name)
    if not isinstance(function, FunctionType):
        kind = type(function).__name__
        raise UserError(f"{name} is no function, but {kind}: name a function that takes nothing")
    if any(each.default is each.empty for each in inspect.signature(function).parameters.values()):
        raise UserError(f"{name} takes arguments: name a function that takes nothing")
    with modules.of_the_users(name, Path(function.__code__.co_filename)):
        made = function()
    if not isinstance(made, kinds):
        raise UserError(f"{name} returned {type(made).__name__}: return {what}")
    return made


def _module(name: str) -> str:
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=2)
        mend = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(RECIPES)}"
        raise UserError(f"unknown recipe {name!r}: {mend}")
    return RECIPES[name]
