"""Models saved by another library, in a folder or on the hub: find, load and save them."""

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import nn

from trimask import io
from trimask.errors import UserError

CONFIG = "config.json"
OPTIONS = "trimask.json"
"""File of our loading options, next to the library's files in a tokenizer folder."""

_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<subfolder>[\w./-]+))?")
_EXTRA = "pip install -U 'trimask[pretrained]'"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """A model's origin on the hub: `owner/name` or `owner/name/subfolder`, at a revision."""

    name: str
    revision: str | None = None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SavedModel:
    """A saved model: its `config.json`, our options, and the folder of its weights."""

    folder: Path
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    origin: Origin | None
    is_on_hub: bool

    @property
    def family(self) -> str:
        """The type of model: `model_type` (transformers) or `_class_name` (diffusers) in its config."""
        return str(self.config.get("model_type") or self.config.get("_class_name") or "of no declared family")

    def load(self, model_class: Any, **options: Any) -> Any:
        """Load the model frozen: float32, evaluation mode, no gradients.

        Raises:
            UserError: weights are missing, damaged, or do not fit the configuration.
            OSError: they cannot be downloaded from the hub.
        """
        if self.is_on_hub and self.origin is not None:
            _download(self.origin, ["*.safetensors", "*.safetensors.index.json"])
        try:
            with _without_bars():
                model, report = model_class.from_pretrained(
                    self.folder, use_safetensors=True, output_loading_info=True, **options
                )
        except Exception as error:  # three libraries raise many types for damaged files
            raise UserError(
                f"{self.folder} has no complete safetensors weights for its {CONFIG} ({first_line(error)}): "
                "download or save it again"
            ) from error
        wrong = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in report[kind])
        if wrong:
            raise UserError(
                f"{self.folder} lacks {len(wrong)} tensors of a {self.family} ({wrong[0]}): "
                "download or save it again"
            )
        assert isinstance(model, nn.Module)
        return model.float().eval().requires_grad_(False)


def find(name_or_folder: str | Path, *, revision: str | None = None) -> SavedModel:
    """Find the model in a folder or on the hub (`owner/name` or `owner/name/subfolder`).

    Raises:
        UserError: it is neither a folder nor a name on the hub, or has no valid `config.json`.
        OSError: it cannot be downloaded from the hub.
    """
    folder, origin = Path(name_or_folder), None
    is_on_hub = not folder.is_dir()
    if is_on_hub:
        if not _HUB_NAME.fullmatch(str(name_or_folder)):
            raise UserError(
                f"{name_or_folder} is neither a folder nor a name on the hub: give owner/name[/subfolder]"
            )
        folder, origin = _download(Origin(name=str(name_or_folder), revision=revision), [CONFIG])
    elif revision is not None:
        raise UserError(f"revision {revision} does not apply to the folder {folder}: leave it out")
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{name_or_folder} has no {CONFIG}: give the folder of a saved model, or owner/name/subfolder"
        )
    options = io.read_json(folder / OPTIONS) if (folder / OPTIONS).is_file() else {}
    config = io.read_json(folder / CONFIG)
    for content, file in ((config, CONFIG), (options, OPTIONS)):
        if not isinstance(content, dict):
            raise UserError(f"{folder / file} is no JSON object: download or save it again")
    if options.get("origin"):
        origin = Origin(**options["origin"])
    return SavedModel(folder=folder, config=config, options=options, origin=origin, is_on_hub=is_on_hub)


def save(folder: Path, model: Any, *, origin: Origin | None, **options: Any) -> None:
    """Save `model` in its library's format, with our options in another file, atomically."""
    with io.atomic_folder(folder) as temporary:
        with _without_bars():
            model.save_pretrained(temporary)
        # Remove the local path that the model was loaded from.
        config = io.read_json(temporary / CONFIG)
        config.pop("_name_or_path", None)
        io.write_json(temporary / CONFIG, config)
        written = None if origin is None else {"name": origin.name, "revision": origin.revision}
        io.write_json(temporary / OPTIONS, {**options, "origin": written})


@contextmanager
def from_extra(library: str) -> Iterator[None]:
    """Convert failures to import `library` to an ImportError that says how to install it."""
    try:
        yield
    except (ImportError, RuntimeError) as error:  # diffusers raises RuntimeError for ImportError
        if importlib.util.find_spec(library) is None:
            raise ImportError(f"this tokenizer needs {library}, which is not installed: {_EXTRA}") from error
        version = importlib.metadata.version(library)
        raise ImportError(
            f"{library} {version} is too old for this tokenizer ({first_line(error)}): {_EXTRA}"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message; the rest is advice for its own users."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".: ") if lines else type(error).__name__


def _download(origin: Origin, patterns: list[str]) -> tuple[Path, Origin]:
    """Download the files that match `patterns`; return their folder, and the origin with its commit."""
    with from_extra("huggingface_hub"):
        from huggingface_hub import snapshot_download
    match = _HUB_NAME.fullmatch(origin.name)
    assert match is not None
    subfolder = (match["subfolder"] or "").strip("/")
    try:
        root = snapshot_download(
            match["repository"],
            revision=origin.revision,
            allow_patterns=[f"{subfolder}/{pattern}" if subfolder else pattern for pattern in patterns],
            ignore_patterns=["*.fp16.*", "*.non_ema.*"],
        )
    except Exception as error:  # network errors have many types
        raise OSError(
            f"there is no folder {origin.name}, and no such model can be downloaded from the hub "
            f"({first_line(error)}): check the name and the connection, or give a folder"
        ) from error
    # A snapshot's folder is named after its commit.
    commit = Path(root).name
    is_commit = re.fullmatch(r"[0-9a-f]{40}", commit) is not None
    return Path(root) / subfolder, Origin(name=origin.name, revision=commit if is_commit else origin.revision)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Disable the library's progress bars, which would appear even for short reads from the disk."""
    with from_extra("transformers"):
        from transformers.utils import logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
