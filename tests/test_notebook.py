"""The example notebook runs from its first cell to its last."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_example_notebook_runs(root: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(root / "docs" / "notebooks" / "first-steps.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # it is kept without results
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    assert (tmp_path / "demo-math" / "easyep.json").exists()
