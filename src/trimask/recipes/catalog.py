"""Recipes by name: those of trimask, or a user's own function, `mine.py:name` or `package.module:name`.

Listing the recipes of trimask does not import them: their purposes are read from the source files.
"""

import ast
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from trimask import modules
from trimask.errors import UserError

if TYPE_CHECKING:
    from trimask.tokenizer_training.kinds import TokenizerRun
    from trimask.tokenizer_training.text import TextTokenizerRun
    from trimask.training.run import RunConfig

    Recipe = RunConfig | TokenizerRun | TextTokenizerRun

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "debug": "quickstart",
        "quickstart_mini": "quickstart",
        "quickstart_short": "quickstart",
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
"""Recipe -> the module of this package that defines a function of that name, which takes no arguments and
returns the `RunConfig`, or the configuration of a tokenizer's run.
"""


def purpose(name: str) -> str:
    """Return the first sentence of a recipe's docstring; for a user's recipe without one, its name.

    Raises:
        UserError: no recipe has this name.
    """
    if modules.is_own(name):
        return first_sentence(inspect.getdoc(modules.load(name)) or modules.label(name))
    return purpose_in(Path(__file__).with_name(f"{_module(name)}.py"), name)


def purpose_in(path: Path, name: str) -> str:
    """Return the first sentence of the docstring of function `name` in the file `path`, without importing."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return first_sentence(ast.get_docstring(node) or "")
    raise AssertionError(f"{path} has no function {name}")


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring, without its full stop."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?]) ", paragraph, maxsplit=1)[0].rstrip(".")


def resolve(name: str) -> "Recipe":
    """Return the configuration of the recipe called `name`.

    Raises:
        UserError: no recipe has this name (the message has the closest), or a user's recipe fails or returns
            something else.
    """
    if modules.is_own(name):
        from trimask.tokenizer_training.image import ImageTokenizerRun
        from trimask.tokenizer_training.speech import SpeechTokenizerRun
        from trimask.tokenizer_training.text import TextTokenizerRun
        from trimask.training.run import RunConfig

        kinds = (RunConfig, ImageTokenizerRun, SpeechTokenizerRun, TextTokenizerRun)
        return modules.call(name, kinds, "a RunConfig, or a tokenizer's run")
    module = importlib.import_module(f"trimask.recipes.{_module(name)}")
    recipe: Callable[[], Recipe] = getattr(module, name)
    return recipe()


def _module(name: str) -> str:
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=2)
        fix = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(RECIPES)}"
        raise UserError(f"unknown recipe {name!r}: {fix}")
    return RECIPES[name]
