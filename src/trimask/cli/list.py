"""`trimask list`: the recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from trimask.cli.arguments import Verb
from trimask.cli.console import print_json
from trimask.recipes.catalog import RECIPES, purpose


@final
@dataclass(frozen=True, kw_only=True)
class List(Verb):
    """Recipes, one line each."""

    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        purposes = {name: purpose(name) for name in RECIPES}
        if self.json:
            print_json({"recipes": [{"name": name, "purpose": text} for name, text in purposes.items()]})
            return 0
        width = max(map(len, purposes))
        for name, text in purposes.items():
            print(f"{name:<{width}}  {text}")
        return 0
