"""Experiments, as users run them: each has its one complete run in MLflow."""

import json
import os

import pytest

from tests.repository import Repository, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(finished, tmp_path):
    return Repository.copy(finished, tmp_path / "repository")


def work_off_the_queue(repository, workers):
    """Start the queue's workers and wait until all experiments are done; returns DVC's table.

    Whoever waits for what `dvc queue start` prints waits for its workers, too: they inherit its
    standard output. So it gets none.
    """
    repository(f"dvc queue start -j {workers} >/dev/null 2>&1")

    def status():
        table = repository("dvc queue status")
        return table if not {"Running", "Queued"} & set(table.split()) else None

    return wait_for(status, 1200, pause=5)  # starting DVC costs the workers time


def test_every_experiment_has_its_complete_run_in_the_one_store(repository):
    repository("dvc exp run -S train.epochs=1 -S train.learning_rate=1e-5 --name here")
    repository("git stash -q -u || true; git checkout -q . && dvc checkout -q --allow-missing")
    repository("dvc exp run --temp -S balance.strategy=weights --name temporary")
    repository("dvc exp run --queue -S balance.strategy=sampler,merge,augment")
    status = work_off_the_queue(repository, workers=2)
    failed = "$(dvc queue status | awk '/Failed/ {print $1; exit}')"
    assert status.count("Success") == 3, status + repository.run(f"dvc queue logs {failed}").stdout
    again = repository("dvc exp run --temp -S balance.strategy=weights --name again")
    assert repository.stages_run(again) == []
    repository("python -m ferlab sync")
    runs = repository.complete_runs()
    listed = {line.split(",")[0] for line in repository("dvc exp list --name-only").split()}
    assert {"here", "temporary", "again"} <= listed
    assert len(listed) == 6
    assert listed <= set(runs)
    assert len(runs) == 7  # and the workspace's
    assert runs["here"].data.params["train.learning_rate"] == "1e-05"
    assert (
        runs["temporary"].data.metrics["private/accuracy"]
        == runs["again"].data.metrics["private/accuracy"]
    )
    strategies = {name: runs[name].data.params["balance.strategy"] for name in listed}
    assert set(strategies.values()) == {"none", "weights", "sampler", "merge", "augment"}
    merged = next(name for name, strategy in strategies.items() if strategy == "merge")
    assert "private/disgust_recall" not in runs[merged].data.metrics
    for name, run in runs.items():
        assert repository.steps(run) == ([1] if name == "here" else [1, 2])
    head = repository("git rev-parse HEAD").strip()
    assert {runs[name].data.tags["mlflow.source.git.commit"] for name in listed} == {head}


def test_an_experiment_that_cannot_be_shown_does_not_hide_the_others(repository):
    repository("dvc exp run --temp --name good -S evaluate.mistakes=3")
    (reference,) = repository(
        "git for-each-ref --format='%(refname)' 'refs/exps/*/*/good'"
    ).splitlines()
    without_lock = repository("git rev-list --max-parents=0 HEAD").strip()
    repository(f"git update-ref {reference.removesuffix('good')}old {without_lock}")
    (repository.path / "mlflow.db").unlink()
    output = repository("python -m ferlab sync")
    assert "old: not shown in MLflow" in output
    assert "2 results have their run" in output  # good, and the workspace's
    assert "good" in repository.complete_runs()


def test_a_tracking_server_that_is_not_there_costs_seconds_and_no_result(repository):
    repository.change({"  epochs: 2": "  epochs: 3"})
    nobody = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    assert "warning: not shown in MLflow" in repository("dvc repro evaluate", **nobody)
    assert (repository.path / "reports/report.html").exists()
    repository("python -m ferlab sync")
    (run,) = repository.complete_runs().values()
    assert repository.steps(run) == [1, 2, 3]


@pytest.mark.skipif(
    not os.environ.get("FER2013"), reason="FER2013 names no copy of the real dataset"
)
def test_the_whole_pipeline_runs_on_the_real_fer2013(tmp_path):
    changes = {
        "  epochs: 12": "  epochs: 1",
        "  dataset: sample": "  dataset: fer2013",
        "  warmup: 0.2": "  warmup: 0.0",
    }
    repository = Repository(tmp_path / "repository", changes)
    repository("dvc repro")
    summary = json.loads((repository.path / "reports/eda/summary.json").read_text())
    assert summary["source_sizes"] == {"48x48": 35887}
    assert {
        name: summary[name]
        for name in (
            "duplicate_groups",
            "duplicate_images",
            "groups_across_splits",
            "groups_conflicting",
            "blank",
        )
    } == {
        "duplicate_groups": 1516,
        "duplicate_images": 3369,
        "groups_across_splits": 557,
        "groups_conflicting": 57,
        "blank": 13,
    }
    details = json.loads((repository.path / "reports/details.json").read_text())
    assert details["dataset"] == "fer2013"
    assert details["digest"] == summary["digest"]
    assert {name: split["n"] for name, split in details["splits"].items()} == {
        "train": 28709,
        "public": 3589,
        "private": 3589,
        "private_unseen": 3301,
        "private_unseen_near": 3098,
        "test": 7178,
    }
    assert details["splits"]["private"]["accuracy"] > 0.3
    assert repository.runs()[0].data.tags["ferlab.dataset"] == "fer2013"
