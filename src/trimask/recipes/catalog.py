"""The recipes and studies by name. Listing them imports none of them: purposes are read from the sources."""

import ast
import difflib
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from trimask.errors import UserError

if TYPE_CHECKING:
    from trimask.recipes.studies.study import Study
    from trimask.recipes.text_tokenizer import TextTokenizerRun
    from trimask.recipes.tokenizer_training import TokenizerRun
    from trimask.training.run import RunConfig

    Recipe = RunConfig | TokenizerRun | TextTokenizerRun

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
    """The first sentence of the docstring of a recipe or study.

    Raises:
        UserError: no recipe has this name.
    """
    module = f"studies/{name}" if name in STUDIES else _module(name)
    source = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            paragraph = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            return re.split(r"(?<=[.?]) ", paragraph, maxsplit=1)[0].rstrip(".")
    raise AssertionError(f"the module of {name} has no function of that name")


def resolve(name: str) -> "Recipe":
    """The recipe's configuration.

    Raises:
        UserError: no recipe has this name; the message names the closest.
    """
    module = importlib.import_module(f"trimask.recipes.{_module(name)}")
    recipe: Callable[[], Recipe] = getattr(module, name)
    return recipe()


def resolve_study(name: str, *, is_short: bool) -> "Study":
    """The study, or its short form: minutes on a laptop."""
    module = importlib.import_module(f"trimask.recipes.studies.{name}")
    study: Callable[[], Study] = getattr(module, f"{name}_short" if is_short else name)
    return study()


def _module(name: str) -> str:
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=2)
        mend = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(RECIPES)}"
        raise UserError(f"unknown recipe {name!r}: {mend}")
    return RECIPES[name]
