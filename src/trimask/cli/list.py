"""`trimask list`: the recipes and studies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from trimask.cli.arguments import Verb
from trimask.cli.console import print_json
from trimask.recipes import catalog as recipes
from trimask.studies import catalog as studies


@final
@dataclass(frozen=True, kw_only=True)
class List(Verb):
    """List recipes and studies, one line each."""

    json: bool = False
    """one JSON object on stdout"""

    def run(self, overrides: Mapping[str, str]) -> int:
        kinds = {
            "recipes": {name: recipes.purpose(name) for name in recipes.RECIPES},
            "studies": {name: studies.purpose(name) for name in studies.STUDIES},
        }
        if self.json:
            print_json(
                {
                    kind: [{"name": name, "purpose": purpose} for name, purpose in purposes.items()]
                    for kind, purposes in kinds.items()
                }
            )
            return 0
        width = max(len(name) for names in kinds.values() for name in names)
        for kind, purposes in kinds.items():
            print(f"{kind}:")
            for name, purpose in purposes.items():
                print(f"  {name:<{width}}  {purpose}")
        return 0
