"""Fetch a model from the Hugging Face hub, by its name there: `owner/name` or `owner/name@revision`.

What is fetched is a folder that `trimask.sharing` wrote, of the same layout as a run's directory. Files stay
in the library's cache (`HF_HOME`); with `HF_HUB_OFFLINE=1`, or where the hub cannot be reached, they come
from there. Weights are safetensors and all else is JSON. Files of other kinds are not fetched, but for copies
of user code, which are not run unasked (`trimask.trust`).
"""

import logging
import re
from pathlib import Path

from trimask.errors import UserError
from trimask.media.rejection import first_line
from trimask.reading import read_text
from trimask.seals import parse_json

logger = logging.getLogger(__name__)

_SECONDS = 5.0  # timeout of the first request; the library would retry for half a minute
_CONFIG, _WEIGHTS, _TOKENIZERS = "config.json", "model.safetensors", "tokenizers"  # as in a run's directory
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_KINDS = ("*.json", "*.safetensors", "*.md", "modules/*.py", "tokenizers/modules/*.py")


def is_hub_name(run: str | Path) -> bool:
    """Whether `run` names a model on the hub: `owner/name`, and neither it nor `owner` is a path here."""
    found = _NAME.fullmatch(run) if isinstance(run, str) else None
    if found is None or Path(found["repo"]).suffix == ".safetensors" or Path(str(run)).exists():
        return False
    return not Path(found["repo"]).parent.exists()


def fetch(name: str, revision: str | None = None) -> Path:
    """Fetch the model `name` and return its folder in the library's cache, which must not be changed.

    Args:
        revision: a branch, tag or commit, unless `name` has one (`owner/name@revision`); by default `main`.

    Raises:
        UserError: the hub has no such model or revision, it needs permission, it is not a model of trimask,
            or the hub cannot be reached and the model is not in the cache.
    """
    found = _NAME.fullmatch(name)
    assert found is not None, "ask `is_hub_name` first"
    if revision is not None and found["revision"] is not None:
        raise UserError(f"{name} has a revision, and {revision!r} is given too: leave one out")
    repo, revision = found["repo"], revision or found["revision"]
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = name if revision is None or found["revision"] else f"{name}@{revision}"
    try:
        is_away = not _can_ask(what, repo, revision)
        # First the smallest file: weights of other libraries can be large.
        config = hf_hub_download(repo, _CONFIG, revision=revision, local_files_only=is_away)
        _check_config(what, Path(config))
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=list(_KINDS), local_files_only=is_away)
        )
    except UserError:
        raise
    except GatedRepoError as error:
        raise UserError(f"{what} needs its owner's permission: ask for it on its page, and log in") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{what} is not here, and the hub has no public model of this name: check the name, or log in "
            "(hf auth login) if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repo} has no revision {revision}: name a branch, a tag or a commit") from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"{what} is neither here nor in the hub's cache, and the hub cannot be reached: check the name "
            "or the connection"
        ) from error
    except EntryNotFoundError as error:
        raise UserError(f"{what} is not a model of trimask: it has no {_CONFIG}") from error
    except Exception as error:  # each layer of the connection raises its own types
        raise UserError(f"{what} cannot be fetched ({first_line(error)}): try again later") from error
    for part in (_WEIGHTS, _TOKENIZERS):
        if not (folder / part).exists():
            raise UserError(f"{what} is not a whole model of trimask: it has no {part}; push it again")
    return folder


def _can_ask(what: str, repo: str, revision: str | None) -> bool:
    """Return whether the hub answers. Raise its errors about a name or revision that it doesn't have."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(repo, revision=revision, timeout=_SECONDS)
    except HFValidationError as error:
        raise UserError(f"{repo!r} is no name on the hub: give OWNER/NAME") from error
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:  # each layer of the connection raises its own types
        logger.warning("%s: the hub cannot be reached (%s): looking in its cache", what, first_line(error))
        return False
    return True


def _check_config(what: str, path: Path) -> None:
    """Raise UserError unless the file describes a run, as far as can be told without importing user code."""
    try:
        stored = parse_json(read_text(path))
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or not isinstance(stored.get("run"), dict) or _TOKENIZERS not in stored:
        raise UserError(f"{what} is not a model of trimask: its {_CONFIG} does not describe a run")
