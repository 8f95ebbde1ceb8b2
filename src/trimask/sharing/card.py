"""The card of a shared model, in Markdown: what it is, how to use it, its figures, what it cannot do."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trimask import __version__
from trimask.errors import UserError
from trimask.report.page import Prose, Table
from trimask.runs.own_prompt import suggest_prompt
from trimask.scorecard.tables import scorecard_blocks
from trimask.sharing.contents import CARD, SCORES, Contents
from trimask.tokenizers.bundle import Tokenizers, hashes

_TAGS = ("masked-diffusion", "discrete-diffusion", "multimodal")


def write_card(
    contents: Contents, *, name: str, dtype: str, license: str | None, languages: Sequence[str]
) -> str:
    """Write the card of the model `name`.

    A card that the user wrote is kept; it gets the hub's metadata if it has none.

    Raises:
        UserError: it has, and a license or languages are given too.
    """
    header = _metadata(contents, license=license, languages=languages)
    if contents.text is not None and contents.text.startswith("---\n"):
        if license is not None or languages:
            raise UserError(f"the run's {CARD} states license and languages itself: change them there")
        return contents.text
    if contents.text is not None:
        return f"{header}\n{contents.text}"
    parts = [header, f"# {name}", *_introduction(contents, name, dtype)]
    parts += [*_figures(contents.scores, name), *_limits(contents)]
    return "\n\n".join(parts) + "\n"


def _metadata(contents: Contents, *, license: str | None, languages: Sequence[str]) -> str:
    tags = [*_TAGS, *(task.replace("_", "-") for task in _trained(contents))]
    lines = ["---", "library_name: trimask"]
    if license is not None:
        lines.append(f"license: {json.dumps(license)}")
    if languages:
        lines.append(f"language: {json.dumps(list(languages))}")
    return "\n".join([*lines, f"tags: {json.dumps(tags)}", "---"])


def _trained(contents: Contents) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.task for part in contents.config.mixture.components))


def _introduction(contents: Contents, name: str, dtype: str) -> Iterator[str]:
    config, facts = contents.config, contents.facts
    total = sum(parameter.numel() for parameter in contents.denoiser.parameters())
    vocabulary = contents.denoiser.vocabulary
    yield (
        f"A masked diffusion model of {', '.join(vocabulary.modalities)}: one bidirectional transformer of "
        f"{total:,} parameters over one discrete token space, pretrained with trimask {__version__}."
    )
    task, prompt = _first_try(contents)
    words = [json.dumps(task), *([json.dumps(prompt)] if prompt else []), "seed=0"]
    yield (
        "## Use it\n\n```python\nimport trimask\n\n"
        f"model = trimask.load({json.dumps(name)})\nresult = model.generate({', '.join(words)})\n```"
    )
    data = getattr(config.data, "folders", None)
    kept = ", ".join(f"`{file}`" for file in hashes(contents.tokenizers))
    steps = facts.get("steps")
    yield "\n".join(
        [
            "## What it is",
            "",
            f"- Recipe: `{facts.get('recipe', 'unknown')}`"
            + (f", after {int(steps):,} updates" if steps and steps.isdecimal() else "")
            + f"; width {config.model.width}, depth {config.model.depth}, {config.model.num_heads} heads. "
            "`config.json` has every field.",
            f"- Tasks that it was trained on: {', '.join(f'`{each}`' for each in _trained(contents))}.",
            "- Data: "
            + (
                "prepared folders " + ", ".join(f"`{folder.name}`" for folder in data)
                if data
                else f"`{type(config.data).__name__}`"
            )
            + ", not part of this folder.",
            f"- Tokenizers: {kept}.",
            f"- Weights: {dtype}, safetensors.",
        ]
    )


def _first_try(contents: Contents) -> tuple[str, str | None]:
    """Choose a task and a prompt of the training data, or the first trained task where the data is away."""
    try:
        task, prompt = suggest_prompt(contents.config, Tokenizers.load(contents.tokenizers))
        return task.name, prompt
    except (ValueError, OSError):
        tasks = {task.name: task for task in contents.config.tasks}
        trained = sorted(_trained(contents), key=lambda name: not {"text"} >= set(tasks[name].condition))
        return trained[0], "a prompt" if "text" in tasks[trained[0]].condition else None


def _figures(scores: Mapping[str, Any] | None, name: str) -> Iterator[str]:
    command = f"`trimask evaluate RUN --suite {(scores or {}).get('suite', 'quick')} --out RUN/{SCORES}`"
    yield "## Figures"
    if scores is None:
        yield f"None were measured. {command} measures them."
        return
    judges = ", ".join(judge["name"] for judge in (scores.get("judges") or {}).values() if judge)
    yield (
        f"By {command}, seed {scores.get('seed')}, {scores.get('num_sequences')} examples a figure; judges: "
        f"{judges or 'none'}. `{SCORES}` has them all."
    )
    for block in scorecard_blocks(scores):
        if isinstance(block, Prose):
            yield _escape(block.text)
        elif isinstance(block, Table):
            yield "\n".join(_table(block))


def _table(table: Table) -> Iterator[str]:
    yield f"### {_escape(table.heading or 'More')}"
    yield ""
    yield "| " + " | ".join(map(_escape, table.header)) + " |"
    yield "|" + "---|" * len(table.header)
    for row in table.rows:
        yield "| " + " | ".join(map(_escape, row)) + " |"
    if table.note:
        yield ""
        yield _escape(table.note)


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _limits(contents: Contents) -> Iterator[str]:
    failed = [
        claim["name"] for claim in (contents.scores or {}).get("claims") or [] if not claim.get("passed")
    ]
    lines = [
        "## Limits",
        "",
        "- It knows its training data and what resembles it, and may repeat examples of it. Nothing filters "
        "what it generates.",
        "- Its log-likelihoods are bounds (NELBO): do not compare them with an autoregressive model's as if "
        "they were the same quantity.",
        "- `seen.json` lists the commonest words of the training captions and transcripts, a few short ones "
        "whole, and the names of voices.",
    ]
    if failed:
        lines.append(f"- {len(failed)} bounds of its scorecard do not hold: see the table of them above.")
    yield "\n".join(lines)
