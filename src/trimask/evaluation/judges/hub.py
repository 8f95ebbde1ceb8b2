"""Import transformers, for judges given by a hub name or a folder in its format."""

from typing import Any


def check_hub(judge: str, source: str) -> None:
    """Check that transformers can load the configuration of model `source`; the weights are not loaded.

    Raises:
        ImportError: transformers is not installed. OSError, ValueError: there is no such model.
    """
    import_transformers(judge).AutoConfig.from_pretrained(source)


def import_transformers(judge: str) -> Any:
    """Import transformers, with its progress bars disabled.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        import transformers  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ImportError(f"the {judge} judge needs transformers: install trimask[eval]") from error
    transformers.utils.logging.disable_progress_bar()
    return transformers
