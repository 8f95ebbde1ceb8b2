"""The recipes by name. Listing them imports none of them: purposes are read from the sources."""

import ast
import difflib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimask.recipes.tokenizer_training import TokenizerRun
    from trimask.training.run import RunConfig

    Recipe = RunConfig | TokenizerRun

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "debug": "quickstart",
        "quickstart_mini": "quickstart",
        "quickstart": "quickstart",
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


def purpose(name: str) -> str:
    """The first sentence of the recipe's docstring.

    Raises:
        ValueError: no recipe has this name.
    """
    source = Path(__file__).with_name(f"{_module(name)}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            paragraph = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            return paragraph.partition(". ")[0].rstrip(".")
    raise AssertionError(f"the module of recipe {name} has no function of that name")


def resolve(name: str) -> "Recipe":
    """The recipe's configuration.

    Raises:
        ValueError: no recipe has this name; the message names the closest.
    """
    module = importlib.import_module(f"trimask.recipes.{_module(name)}")
    recipe: Callable[[], Recipe] = getattr(module, name)
    return recipe()


def _module(name: str) -> str:
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=2)
        mend = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(RECIPES)}"
        raise ValueError(f"unknown recipe {name!r}: {mend}")
    return RECIPES[name]
