"""transformers, for judges that come by a hub name or as a folder of its format."""

from typing import Any


def check_hub(judge: str, source: str) -> None:
    """That transformers can say what model `source` is, without its weights.

    Raises:
        ImportError: it is not installed. OSError, ValueError: it knows no such model.
    """
    import_transformers(judge).AutoConfig.from_pretrained(source)


def import_transformers(judge: str) -> Any:
    """The library, without its progress bars.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        import transformers  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ImportError(f"the {judge} judge needs transformers: install trimask[eval]") from error
    transformers.utils.logging.disable_progress_bar()
    return transformers
