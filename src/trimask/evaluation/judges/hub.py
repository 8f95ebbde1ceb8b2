"""transformers, for judges that come by a hub name or as a folder of its format."""

import importlib
from typing import Any


def transformers_for(judge: str) -> Any:
    """The library, without its progress bars.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        library = importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(f"the {judge} judge needs transformers: install trimask[eval]") from error
    library.utils.logging.disable_progress_bar()
    return library
