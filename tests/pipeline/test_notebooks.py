"""Every notebook runs from top to bottom on the sample, and is committed without outputs."""

import os
import re
import shutil

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow  # they need a whole pipeline
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def unavailable():
    raise OSError("no MLflow here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the pipeline's outputs on the sample (one epoch), and the recipes' results."""
    top = tmp_path_factory.mktemp("notebooks")
    text = (REPOSITORY / "params.yaml").read_text()
    (top / "params.yaml").write_text(re.sub(r"(?m)^  epochs: \d+", "  epochs: 1", text))
    shutil.copy(REPOSITORY / "dvc.yaml", top)
    shutil.copytree(REPOSITORY / "recipes", top / "recipes", ignore=shutil.ignore_patterns("runs"))
    (top / "models").mkdir()
    before = os.getcwd()
    os.chdir(top)
    try:
        from stages import balance, download, eda, evaluate, experiment, predict, train

        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(
            "ferlab.tracking.store.store", unavailable
        )  # what a notebook reads is on disk
        for stage in (download, eda, balance, train, predict, evaluate):
            stage.main(experiment())
        monkeypatch.undo()
    finally:
        os.chdir(before)
    return top


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_is_committed_without_outputs(path, folder, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    pictures = [
        out
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    assert len(pictures) >= 3
