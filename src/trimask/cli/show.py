"""`trimask show`: print a recipe before it runs."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

import tyro

from trimask.cli.arguments import Verb
from trimask.cli.console import print_json
from trimask.cli.jobs import find_job
from trimask.cli.recipe import resolve_recipe
from trimask.config import to_dict


@final
@dataclass(frozen=True, kw_only=True)
class Show(Verb):
    """Show a recipe's resolved fields and size: for a model, parameters, sequences, epochs of each task, and
    training FLOPs; for a tokenizer, parameters, codes and bits.

    Any field can be overridden by its path: `trimask show quickstart --model.depth 6 --num-steps 100`.
    """

    takes_overrides: ClassVar[bool] = True

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")]
    """one of `trimask list`, or your own function (mine.py:NAME); or a run directory or exported file, whose
    recipe is shown"""
    diff: Annotated[str | None, tyro.conf.arg(metavar="OTHER")] = None
    """another recipe: show only the fields in which RECIPE differs from it"""
    tokenizers: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """tokenizers to train over (default: the shipped ones)"""
    data: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="DIR")] = ()
    """data that `trimask prepare` made, instead of the recipe's; for a tokenizer, raw pictures or recordings;
    may be given several times"""
    json: bool = False
    """print one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        if self.diff is not None:
            return self._print_differences(
                resolve_recipe(self.recipe, overrides, self.data), resolve_recipe(self.diff, {})
            )
        planned = find_job(self.recipe, overrides, data=self.data, tokenizers=self.tokenizers)
        if not self.json:
            print_json(to_dict(planned.config))
            sys.stdout.flush()
        planned.print_summary(as_json=self.json)
        return 0

    def _print_differences(self, config: Any, other: Any) -> int:
        mine, theirs = dict(_leaves(to_dict(config))), dict(_leaves(to_dict(other)))
        paths = [path for path in {**mine, **theirs} if mine.get(path) != theirs.get(path)]
        if self.json:
            pairs = {path: {self.recipe: mine.get(path), str(self.diff): theirs.get(path)} for path in paths}
            print_json({"differences": pairs})
            return 0
        width = max(map(len, paths), default=0)
        for path in paths:
            print(f"{path:<{width}}  {_format_leaf(mine, path)}  ({self.diff}: {_format_leaf(theirs, path)})")
        if not paths:
            print(f"{self.recipe} and {self.diff} are equal")
        return 0


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if items is None or not value:
        yield path, value
        return
    for name, item in items:
        yield from _leaves(item, f"{path}.{name}" if path else str(name))


def _format_leaf(values: Mapping[str, Any], path: str) -> str:
    return json.dumps(values[path]) if path in values else "absent"
