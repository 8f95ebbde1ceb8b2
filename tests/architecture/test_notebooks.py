"""The notebooks run from top to bottom, are stored without outputs, and are small."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def test_there_are_two() -> None:
    assert NOTEBOOKS == ["masked-diffusion-by-hand.ipynb", "the-shipped-model.ipynb"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_stored_small_and_without_outputs(name: str) -> None:
    assert (FOLDER / name).stat().st_size < 20_000
    for cell in nbformat.read(FOLDER / name, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    with_ours = {"PYTHONPATH": str(FOLDER.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=FOLDER, env=os.environ | with_ours)
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2
