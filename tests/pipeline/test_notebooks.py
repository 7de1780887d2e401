"""Every notebook runs from top to bottom on the sample, and shows its outputs where it is read."""

import os
import re
import shutil

import nbformat
import pytest

from notebooks import execute
from tests.builders import tiny
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


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


@every_notebook
@pytest.mark.slow  # it needs a whole pipeline
def test_the_notebook_runs(path, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert len(pictures(execute.execute(path, folder))) >= 3


@every_notebook
def test_the_notebook_is_committed_small_with_its_outputs_and_nothing_of_the_machine(path):
    text = path.read_text()
    assert len(text) <= execute.LIMIT
    notebook = nbformat.reads(text, as_version=4)
    assert len(pictures(notebook)) >= 3
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [out for cell in code for out in cell.outputs]
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for out in outputs)
    assert str(REPOSITORY) not in text and "/home/" not in text and "/tmp/" not in text


def test_notebooks_are_not_executed_on_photographs(tmp_path, monkeypatch, capsys):
    tiny().save(tmp_path / "data/balanced")
    monkeypatch.setattr(execute, "TOP", tmp_path)
    with pytest.raises(SystemExit) as caught:
        execute.main()
    assert "is tiny; committed notebooks show drawn faces only" in caught.value.code


def pictures(notebook):
    """The outputs of a notebook that are pictures."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
