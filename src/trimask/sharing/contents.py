"""What others need to use a run's model, gathered from its directory or an exported file."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from trimask import io
from trimask.errors import UserError
from trimask.generation.length import LengthPolicy
from trimask.generation.prompts import Seen
from trimask.model.denoiser import Denoiser
from trimask.runs.exported import (
    find_tokenizers_of_file,
    read_lengths,
    read_presets_of_file,
    read_run_config,
    read_seen,
    seen_in,
)
from trimask.runs.lengths import load_lengths
from trimask.runs.load import (
    QUICKSTART,
    find_presets_file,
    find_run_folder,
    load_config_of,
    load_run_config,
    load_trained,
)
from trimask.runs.presets import Presets, load_presets
from trimask.runs.pretrain import MODEL, TOKENIZERS
from trimask.runs.seen import load_seen
from trimask.tokenizers.bundle import SHIPPED
from trimask.training.run import RunConfig

logger = logging.getLogger(__name__)

SCORES, CARD = "scorecard.json", "README.md"
"""Files of a run's directory that the user makes: the result of `trimask evaluate`, and a model card."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """A model and what belongs to it.

    Attributes:
        facts: `recipe` and `steps`, as far as known.
        config: of the run, with names in place of the paths of its data.
        tokenizers: their folder.
        lengths: None for a model that uses the defaults.
        scores: the scorecard of these weights, if there is one.
        text: the model card that the user wrote, if any.
    """

    denoiser: Denoiser
    facts: Mapping[str, str]
    config: RunConfig
    tokenizers: Path
    lengths: LengthPolicy | None
    seen: Seen
    presets: Presets | None
    scores: Mapping[str, Any] | None
    text: str | None


def gather_contents(run: str | Path) -> Contents:
    """Gather the contents of `run`: a run directory, a checkpoint, an exported file, or `quickstart`.

    Raises:
        FileNotFoundError, UserError: there is no such run, or a file of it is damaged.
    """
    denoiser, facts = load_trained(run)
    path = Path(run)
    if path.is_file() and path.name != MODEL:
        return _contents_of_file(path, denoiser, facts)
    is_shipped = str(run) == "quickstart" and not path.is_dir()
    if path.name == MODEL and path.is_file():
        path = path.parent
    folder = QUICKSTART.parent if is_shipped else find_run_folder(path)
    config = load_config_of(run) if is_shipped else load_run_config(folder)
    presets = find_presets_file(run)
    is_newest = is_shipped or path == folder
    return Contents(
        denoiser=denoiser,
        facts=facts,
        config=replace(config, data=config.data.without_places()),
        tokenizers=SHIPPED if is_shipped else folder / TOKENIZERS,
        lengths=None if is_shipped else load_lengths(folder),
        seen=load_seen(folder) if is_shipped else seen_in(folder),
        presets=load_presets(presets, denoiser) if is_newest and presets and presets.exists() else None,
        scores=_read_scores(folder) if is_newest else None,
        text=_read_card(folder) if is_newest else None,
    )


def _contents_of_file(path: Path, denoiser: Denoiser, facts: Mapping[str, str]) -> Contents:
    return Contents(
        denoiser=denoiser,
        facts=facts,
        config=read_run_config(facts, path),
        tokenizers=find_tokenizers_of_file(path, facts, None),
        lengths=read_lengths(facts, path),
        seen=read_seen(facts, path),
        presets=read_presets_of_file(facts, path),
        scores=None,
        text=None,
    )


def _read_scores(folder: Path) -> Mapping[str, Any] | None:
    path, weights = folder / SCORES, folder / MODEL
    if not path.is_file():
        return None
    if weights.is_file() and folder != QUICKSTART.parent and path.stat().st_mtime < weights.stat().st_mtime:
        logger.warning(
            "%s is older than the weights, so the card leaves it out: evaluate the run again", path
        )
        return None
    scores = io.read_json(path, fix="evaluate the run again")
    if not isinstance(scores, dict) or scores.get("format") != "trimask scorecard":
        raise UserError(f"{path} is not a scorecard: write it with `trimask evaluate`, or remove it")
    return scores


def _read_card(folder: Path) -> str | None:
    path = folder / CARD
    return path.read_text(encoding="utf-8") if path.is_file() else None
