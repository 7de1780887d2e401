"""The recipes' pipeline on a tiny dataset: results to commit, runs in MLflow, nothing twice."""

import json

import pytest

from tests.repository import SMALL, TOP, Repository

pytestmark = pytest.mark.slow


def test_the_committed_results_are_up_to_date(tmp_path):
    """Whoever changes what a stage depends on runs again what that makes stale."""
    repository = Repository(tmp_path / "repository")
    keys = sorted(path.name for path in (TOP / "recipes/results").iterdir())
    output = repository("dvc --cd recipes repro --allow-missing --dry")
    assert len(keys) > 40 and output.count("Stage 'evaluate@") == len(keys)
    assert "Running stage" not in output


def test_recipes_run_leave_results_and_are_up_to_date_in_a_clone_without_models(tmp_path):
    repository = Repository(tmp_path / "repository")
    shared, recipe = (
        repository.path / "recipes/params.yaml",
        repository.path / "recipes/anamika_2025.yaml",
    )
    shared.write_text(shared.read_text().replace("dataset: fer2013", "dataset: data.zip"))
    text = recipe.read_text().replace("extra_datasets: [ck48]", "extra_datasets: [data.zip]")
    for old, new in SMALL.items():
        text = text.replace(old, new)
    recipe.write_text(text)
    repository("rm -rf recipes/results recipes/dvc.lock; git add -A && git commit -qm tiny")
    wanted = "evaluate@anamika_2025 evaluate@majority"
    output = repository(f"dvc --cd recipes repro {wanted}")
    assert "private: " in output and "warning" not in output
    results = repository.path / "recipes/results"
    assert {file.name for file in (results / "anamika_2025").iterdir()} == {
        "metrics.json",
        "details.json",
        "history.csv",
        "predictions.csv.gz",
        "run.json",
    }
    details = json.loads((results / "anamika_2025/details.json").read_text())
    assert len(details["robustness"]) == 36
    assert details["splits"]["data"]["n"] > 7
    assert json.loads((results / "anamika_2025/run.json").read_text())["epochs"]
    assert json.loads((results / "majority/run.json").read_text())["train_seconds"] > 0
    runs = {run.info.run_name: run for run in repository.runs()}
    assert set(runs) == {"anamika_2025", "majority"}
    assert all(
        run.info.status == "FINISHED" and run.data.tags["ferlab.complete"] == "true"
        for run in runs.values()
    )
    for name in ("anamika_2025", "majority"):  # by their ids, from MLflow alone
        compared = repository(f"python -m ferlab compare {runs[name].info.run_id} anamika_2025")
        assert f"  {name} " in compared
    assert "2 results have their run" in repository("python -m ferlab sync")
    assert len(repository.runs()) == 2
    page = repository("python -m ferlab papers; cat reports/papers.md")
    assert "| anamika_2025 (on custom-" in page  # a result on other faces says so
    repository("git add -A && git commit -qm results")
    dry = f"dvc --cd recipes repro --allow-missing --dry {wanted}"
    assert "Running stage" not in repository(f"git clone -q . ../clone && cd ../clone && {dry}")
    (repository.path / "mlflow.db").unlink()
    repository("python -m ferlab sync")
    assert {run.info.run_name for run in repository.runs()} == {"anamika_2025", "majority"}
