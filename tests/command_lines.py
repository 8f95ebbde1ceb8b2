"""Command lines of ours that stand in documents and examples, taken as their programs would take them."""

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence

from torch.distributed.run import get_args_parser

from trimask import modules
from trimask.cli.arguments import Verb, parse
from trimask.cli.entry import VERBS, _load_verb
from trimask.cli.recipe import resolve_recipe
from trimask.recipes.catalog import RECIPES

SLURM_SCRIPT = "examples/cluster/train.slurm"


def commands(text: str) -> list[list[str]]:
    """The words of each command of ours in the fenced blocks of a Markdown text, without what is said of it
    to the right.
    """
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            command = re.split(r" {2,}(?! )", line)[0]
            if re.match(r"(\w+=\S+ )*(trimask|torchrun|sbatch) ", command):
                found.append(shlex.split(command, comments=True))
    return found


def taken(words: Sequence[str]) -> tuple[Verb, Mapping[str, str]]:
    """The verb that a command comes to, with its overrides, which fit its recipe."""
    while re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words[0] == "sbatch":
        run, recipe, *more = words[words.index(SLURM_SCRIPT) + 1 :]
        words = ["trimask", "train", recipe, "--out", run, "--resume", *more]
    if words[0] == "torchrun":
        words = ["trimask", *launched(words).training_script_args]
    program, name, *rest = words
    assert program == "trimask"
    verb, overrides = parse(_load_verb(VERBS[name][0]), name, rest)
    recipe = getattr(verb, "recipe", "")
    if recipe in RECIPES or modules.is_own(recipe or ""):
        resolve_recipe(recipe, overrides)
    return verb, overrides


def launched(words: Sequence[str]) -> argparse.Namespace:
    """What torchrun makes of its own words; it starts our module."""
    program, *rest = words
    options = get_args_parser().parse_args(rest)
    assert program == "torchrun" and options.module and options.training_script == "trimask"
    return options
