"""Push a model's folder to the Hugging Face hub."""

import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from trimask import __version__
from trimask.errors import UserError
from trimask.media.rejection import first_line
from trimask.sharing.folder import save_model

_OURS = ("modules/*", "tokenizers/*", "lengths.json", "presets.json", "scorecard.json")


def push_model(
    run: str | Path,
    repo: str,
    *,
    dtype: str = "float32",
    private: bool = False,
    license: str | None = None,
    languages: Sequence[str] = (),
) -> str:
    """Push what `save_model` writes of `run` to `repo`, `owner/name`; return the commit's address.

    Raises:
        FileNotFoundError, UserError: there is no such run, or the hub cannot be reached or refuses the model.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save_model(run, folder, dtype=dtype, name=repo, license=license, languages=languages)
        return push_folder(folder, repo, private=private)


def push_folder(folder: Path, repo: str, *, private: bool = False) -> str:
    """Push what `save_model` wrote to `repo`, `owner/name`, as one commit; return its address.

    Files there that are not ours stay. A repository that exists keeps its visibility.

    Raises:
        UserError: the hub cannot be reached or refuses it; the message says why.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

    api = HfApi(library_name="trimask", library_version=__version__)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        gone = [name for name in api.list_repo_files(repo) if name not in files and _is_ours(name)]
        # `upload_folder` may make several commits: between two of them the model would not be whole.
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
            + [CommitOperationDelete(name) for name in gone],
            commit_message=f"Model of trimask {__version__}",
        )
    except HFValidationError as error:
        raise UserError(f"{repo!r} is not a name on the hub: give OWNER/NAME") from error
    except LocalTokenNotFoundError as error:
        raise UserError("the hub asks who you are: log in (hf auth login), or set HF_TOKEN") from error
    except Exception as error:  # each layer of the connection raises its own types
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UserError(
                f"the hub does not let you write to {repo}: log in (hf auth login) with a token that may, or "
                "choose another owner"
            ) from error
        raise UserError(f"{repo} cannot be pushed ({first_line(error)}): try again later") from error
    return commit.commit_url


def _is_ours(name: str) -> bool:
    """Whether a file in the repository is part of a model, and goes if this one does not have it."""
    return any(fnmatch(name, pattern) for pattern in _OURS)
