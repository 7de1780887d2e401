"""Experiments and kills, as users meet them: each experiment has its one complete run; a killed training loses nothing."""

import json
import os
import signal
import subprocess
from urllib.parse import urlparse

import psutil
import pytest

from tests.repository import SMALL, Repository, answers, wait_for

pytestmark = pytest.mark.slow
QUEUED = ("Running", "Queued")


def complete(repository):
    """{name: run} of the complete runs; asserts that no other kind exists, and none in Default."""
    client = repository.client()
    runs = repository.runs()
    assert all(
        run.info.status == "FINISHED" and run.data.tags.get("ferlab.complete") == "true"
        for run in runs
    )
    assert not client.search_runs(["0"])
    for run in runs:
        assert os.path.isdir(urlparse(run.info.artifact_uri).path)
        assert client.list_artifacts(run.info.run_id, "figures")
    return {run.info.run_name: run for run in runs}


def epochs_done(repository):
    """Finished epochs of the unfinished training; 0 where there is none."""
    notes = list((repository.path / ".ferlab/resume").glob("*/live.json"))
    return json.loads(notes[0].read_text())["epoch"] if notes else 0


def test_every_experiment_has_its_complete_run_in_the_one_store(tmp_path):
    repository = Repository(tmp_path / "repository")
    repository("dvc repro")
    repository("git add -A && git commit -qm result")
    repository("dvc exp run -S train.epochs=1 -S train.learning_rate=1e-5 --name here")
    repository("git stash -q -u || true; git checkout -q .")
    repository("dvc exp run --temp -S balance.strategy=weights --name temporary")
    repository("dvc exp run --queue -S 'balance.strategy=sampler,merge' -S 'train.seed=1,2'")
    repository("dvc queue start -j 4")
    status = wait_for(
        lambda: not set(QUEUED) & set((told := repository("dvc queue status")).split()) and told,
        1200,
    )
    assert status.count("Success") == 4, status + repository(
        "dvc queue logs $(dvc queue status | awk 'NR==2{print $1}')"
    )
    again = repository("dvc exp run --temp -S balance.strategy=weights --name again")
    assert repository.stages_run(again) == []
    repository("python -m ferlab sync")
    runs = complete(repository)
    listed = {line.split(",")[0] for line in repository("dvc exp list --name-only").split()}
    assert {"here", "temporary", "again"} <= listed
    assert len(listed) == 7
    assert listed <= set(runs)
    assert len(runs) == 8
    assert runs["here"].data.params["train.learning_rate"] == "1e-05"
    assert (
        runs["temporary"].data.metrics["private_accuracy"]
        == runs["again"].data.metrics["private_accuracy"]
    )
    assert {runs[name].data.params["balance.strategy"] for name in listed} == {
        "none",
        "weights",
        "sampler",
        "merge",
    }
    merged = next(run for run in runs.values() if run.data.params["balance.strategy"] == "merge")
    assert "disgust_recall" not in merged.data.metrics
    for name, run in runs.items():
        points = repository.client().get_metric_history(run.info.run_id, "selection_accuracy")
        assert sorted(point.step for point in points) == ([1] if name == "here" else [1, 2])
    assert all(
        run.data.tags["mlflow.source.git.commit"] == repository("git rev-parse HEAD").strip()
        for name, run in runs.items()
        if name in listed
    )


def test_an_experiment_that_cannot_be_shown_does_not_hide_the_others(tmp_path):
    repository = Repository(tmp_path / "repository")
    repository("dvc exp run --temp --name good -S evaluate.mistakes=3")
    repository("dvc exp run --temp --name old -S evaluate.mistakes=4")
    repository(
        "git update-ref $(git for-each-ref --format='%(refname)' 'refs/exps/*/*/old') HEAD"
    )  # no dvc.lock there
    (repository.path / "mlflow.db").unlink()
    said = repository("python -m ferlab sync")
    assert "old: not shown in MLflow" in said
    assert "1 results have their run" in said
    assert set(complete(repository)) == {"good"}


def test_a_training_killed_at_any_moment_ends_in_the_same_bytes_and_one_run(tmp_path):
    changes = SMALL | {"  epochs: 20": "  epochs: 6"}
    whole = Repository(tmp_path / "whole" / "repository", changes)
    whole("dvc repro")
    killed = Repository(tmp_path / "killed" / "repository", changes)
    killed("dvc repro balance")
    for wanted in (1, 3, 4):
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=killed.path,
            env=killed.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda wanted=wanted: epochs_done(killed) >= wanted)
        if wanted == 3:  # dvc alone dies: its orphan notices, and stops by itself
            child = psutil.Process(process.pid).children(recursive=True)[-1]
            process.kill()
            child.wait(timeout=300)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = killed("dvc repro")
    assert "resuming an interrupted training" in said
    for file in (
        "models/model.keras",
        "models/history.csv",
        "reports/metrics.json",
        "reports/report.html",
        "dvc.lock",
    ):
        assert (killed.path / file).read_bytes() == (whole.path / file).read_bytes(), file
    runs = killed.runs()
    assert [run.info.status for run in runs] == ["FINISHED"]
    steps = killed.client().get_metric_history(runs[0].info.run_id, "selection_accuracy")
    assert sorted(metric.step for metric in steps) == [1, 2, 3, 4, 5, 6]


def test_a_finished_training_that_dvc_did_not_record_and_a_forced_one_share_the_one_run(tmp_path):
    repository = Repository(tmp_path / "repository")
    repository("dvc repro balance")
    repository(
        "python -m stages.train"
    )  # as where dvc dies between the end of training and its own note of it
    assert [run.info.run_name for run in repository.runs()] == ["training"]
    repository("dvc repro")
    assert list(complete(repository)) == [repository.runs()[0].info.run_name]
    repository("dvc repro --force train")
    repository("dvc repro --force evaluate")
    repository("python -m ferlab sync")
    assert len(complete(repository)) == len(repository.runs()) == 1
    steps = repository.client().get_metric_history(
        repository.runs()[0].info.run_id, "selection_accuracy"
    )
    assert sorted(metric.step for metric in steps) == [1, 2]
    repository("sed -i 's/  mistakes: 24/  mistakes: 5/' params.yaml")
    repository("dvc repro --force train evaluate")  # other parameters: another result
    assert len(complete(repository)) == len(repository.runs()) == 2


def test_two_trainings_on_one_output_do_not_mix_and_an_interrupt_says_how_to_go_on(tmp_path):
    repository = Repository(tmp_path / "repository", SMALL | {"  epochs: 20": "  epochs: 4000"})
    repository("dvc repro balance")
    first = subprocess.Popen(
        ["python", "-m", "stages.train"],
        cwd=repository.path,
        env=repository.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # as in a terminal
    try:
        wait_for(lambda: epochs_done(repository))
        done = repository.run("python -m stages.train")
        assert done.returncode == 1
        assert (
            done.stderr.strip()
            == "error: models/model.keras: another training is writing here; wait for it or stop it"
        )
        first.send_signal(signal.SIGINT)
        assert "the same command goes on from there" in first.communicate(timeout=300)[1]
        assert first.returncode == 1
    finally:
        first.kill()


def test_a_tracking_server_that_is_not_there_costs_seconds_and_no_result(tmp_path):
    repository = Repository(tmp_path / "repository")
    said = repository("dvc repro", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "warning: not shown in MLflow" in said
    assert (repository.path / "reports/report.html").exists()
    repository("python -m ferlab sync")
    assert len(complete(repository)) == 1


def test_a_tracking_server_shows_the_same_run(tmp_path):
    import socket

    repository = Repository(tmp_path / "repository")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination",
            str(tmp_path / "artifacts"),
            "--workers",
            "1",
        ],
        env=repository.environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(port))
        said = repository("dvc repro", MLFLOW_TRACKING_URI=address)
        assert "warning" not in said
        import mlflow

        mlflow.set_tracking_uri(address)
        client = mlflow.MlflowClient()
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        assert [run.info.status for run in runs] == ["FINISHED"]
        assert client.list_artifacts(runs[0].info.run_id, "figures")
        assert not (repository.path / "mlflow.db").exists()
    finally:
        os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.skipif(
    not os.environ.get("FER2013"), reason="FER2013 names no copy of the real dataset"
)
def test_the_whole_pipeline_runs_on_the_real_fer2013(tmp_path):
    changes = {
        "  epochs: 20": "  epochs: 1",
        "  dataset: sample": "  dataset: fer2013",
        "  warmup: 0.2": "  warmup: 0.0",
    }
    repository = Repository(tmp_path / "repository", changes)
    repository("dvc repro")
    found = json.loads((repository.path / "reports/eda/summary.json").read_text())
    assert found["source_sizes"] == {"48x48": 35887}
    assert (
        found["duplicate_groups"],
        found["duplicate_images"],
        found["groups_across_splits"],
        found["groups_conflicting"],
        found["blank"],
    ) == (1516, 3369, 557, 57, 13)
    details = json.loads((repository.path / "reports/details.json").read_text())
    assert details["dataset"] == "fer2013"
    assert details["digest"] == found["digest"]
    assert {name: split["n"] for name, split in details["splits"].items()} == {
        "train": 28709,
        "public": 3589,
        "private": 3589,
        "private_unseen": 3301,
        "test": 7178,
    }
    assert details["splits"]["private"]["accuracy"] > 0.3
    assert repository.runs()[0].data.tags["ferlab.dataset"] == "fer2013"
