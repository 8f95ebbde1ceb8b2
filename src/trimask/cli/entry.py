"""`trimask VERB …`: find the verb, and turn every error into one line and an exit status."""

import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from trimask import __version__
from trimask.cli.arguments import Verb, check_words, choose, parse
from trimask.cli.console import say
from trimask.cli.destination import explain
from trimask.cli.failure import Failed, convert_user_code_errors
from trimask.errors import UserError
from trimask.locks import InUse

VERBS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "list": ("list", "recipes and studies, one line each"),
        "show": ("show", "a recipe: resolved fields, parameters, sequences, epochs, FLOPs"),
        "plan": ("plan", "memory, batch, time and cost of a recipe on given devices"),
        "prepare": ("prepare", "turn your data (folder, parquet, tar, text, hub name) into token shards"),
        "train": ("train", "run a recipe; stop and resume it at any time"),
        "export": ("export", "write a run's weights as one file, or its model as a folder; push it to a hub"),
        "sample": ("sample", "generate text, images and speech with a run, or with the shipped model"),
        "serve": ("serve", "answer requests over HTTP, in the shapes of OpenAI's API, many at a time"),
        "evaluate": ("evaluate", "score a run in every modality, beside floors and ceilings"),
        "lm-eval": ("lm_eval", "run lm-eval, which then knows our models; its own arguments"),
        "tokenizers": ("tokenizers", "show the tokenizers of a folder; assemble public ones to train over"),
        "study": ("study", "answer a question by many small runs: batch, learning rate, horizon, size"),
        "data": ("data", "look at the embedded data; fetch benchmark sets"),
        "demo": ("demo", "generate with the shipped model, train a small one live, write a report"),
    }
)
"""Verb -> (its module in this package, which defines one subclass of `Verb`; its purpose)."""

OVERVIEW = """\
usage: trimask VERB … [--json]

Tri-modal masked diffusion: one transformer, trained from scratch, that generates text, images and speech.

{verbs}

examples:
  trimask demo --minutes 5
  trimask sample quickstart --task text_to_image --prompt "strawberry" --out samples
  trimask show quickstart_mini --model.depth 6
  trimask plan trimodal_3b --devices 512 --device h100
  trimask train quickstart_mini --minutes 10 --out runs/mini
  trimask prepare photos/ --out data/photos
  trimask train quickstart_mini --data data/photos --out runs/photos
  trimask sample runs/mini --task text_to_speech --prompt "good morning" --out samples
  trimask serve quickstart --port 8000
  trimask evaluate runs/mini --suite quick --out scores.json
  trimask study run batch_invariance --short --out studies/batch

`trimask VERB --help` lists the options of a verb. Exit status: 0 done, 1 failed (or in use by another
process), 2 wrong arguments, 130 interrupted.
TRIMASK_TRACEBACK=1 prints the traceback of an error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default that of this process) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # print `?` for characters that the terminal lacks
    # Set before torch is imported. By default its threads spin while they wait for each other, which makes a
    # step many times slower when the cores are shared. On idle cores we measured no difference.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="trimask: %(message)s", level=logging.WARNING)
    try:
        with convert_user_code_errors():
            status = _dispatch(words)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        return _report(error, "interrupted", 130)
    except BrokenPipeError:  # `trimask show … | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Failed, InUse) as error:
        return _report(error, f"error: {error}", 1)
    except UserError as error:
        return _report(error, f"error: {error}", 2)
    except RecursionError as error:  # no file that trimask writes is nested so deep
        return _report(
            error,
            "error: a file is nested too deep, so trimask did not write it: delete or replace it",
            1,
        )
    except ImportError as error:  # an extra that is not installed; the message names it
        return _report(error, f"error: {error}", 1)
    except ArithmeticError as error:
        what = f"a given number is too large or too small to compute with ({error}): change it"
        return _report(error, f"error: {what}", 2)
    except MemoryError as error:
        return _report(error, "error: MemoryError: out of memory, give smaller sizes", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _report(error, f"error: {where}{explain(error)}", 1)


def _dispatch(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {verb:<{width}}  {purpose}" for verb, (_, purpose) in VERBS.items())
        print(OVERVIEW.format(verbs=verbs))
        return 0
    if words[0] == "--version":
        print(f"trimask {__version__}")
        return 0
    check_words(words)
    name = choose("verb", words[0], VERBS)
    arguments, overrides = parse(_load_verb(VERBS[name][0]), name, words[1:])
    return arguments.run(overrides)


def _load_verb(module: str) -> type[Verb]:
    loaded = importlib.import_module(f"trimask.cli.{module}")
    (verb,) = (
        value
        for value in vars(loaded).values()
        if isinstance(value, type) and issubclass(value, Verb) and value is not Verb
    )
    return verb


def _report(error: BaseException, line: str, status: int) -> int:
    if os.environ.get("TRIMASK_TRACEBACK") == "1":
        traceback.print_exception(error)
    say(" ".join(line.split()))  # a library's message may have several lines
    return status
