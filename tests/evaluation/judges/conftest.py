import os
import sys
from pathlib import Path

import pytest

from trimask.evaluation.judges.fetch import fetch


@pytest.fixture(scope="session")
def judges_folder() -> Path:
    """The pinned judges, fetched once (TRIMASK_JUDGES names the folder; else beside the libraries)."""
    folder = Path(os.environ.get("TRIMASK_JUDGES", Path(sys.prefix) / "judges"))
    fetch(folder)
    return folder
