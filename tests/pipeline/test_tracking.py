"""MLflow's own races, as several writers meet them (test_servers.py has the writers)."""

import socket
import subprocess

import pytest

from ferlab import dvc_files
from ferlab.files import UserError
from ferlab.tracking import artifacts, results, runs, store, sync
from ferlab.tracking.epoch_logger import EpochLogger

AUTHOR = "-c user.name=me -c user.email=me@localhost"


def test_a_dataset_that_another_writer_enters_at_the_same_moment_is_entered_again(
    tmp_path, monkeypatch
):
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    enter, calls = mlflow.log_input, []

    def lose_the_race_once(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 1:
            raise mlflow.MlflowException("duplicate key value violates unique constraint")
        return enter(*arguments, **named)

    with store.store() as client:
        run = client.create_run(client.create_experiment("x", tmp_path.as_uri()))
        monkeypatch.setattr(mlflow, "log_input", lose_the_race_once)
        artifacts.log_files(run.info.run_id, [], {"dataset": "faces", "digest": "0" * 32})
        (used,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert used.dataset.name == "faces" and len(calls) == 2


def test_epochs_that_mlflow_does_not_get_are_told_once_and_cost_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("no database")
    for _ in range(2):  # as the trials of a sweep
        logger = EpochLogger({}, "faces", "0" * 16, tmp_path / "live.json")
        logger.epoch({"epoch": 1})
        logger.close()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith("warning: epochs not shown in MLflow (")
    assert "mlflow.db: file is not a database" in said[0] and "sync" in said[0]


def test_sync_says_in_a_line_that_the_server_is_down(tmp_path, monkeypatch):
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as taken:  # a port that nobody listens on, once it is closed
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UserError, match="MLflow does not answer .*ferlab doctor") as caught:
        sync.sync()
    assert "\n" not in str(caught.value)


def test_a_result_that_cannot_be_shown_does_not_hide_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("ferlab.recipes.with_result", lambda: ["good", "bad", "better"])

    def show(key):
        if key == "bad":
            raise OSError("gone")

    monkeypatch.setattr(runs, "project_recipe", show)
    said = []
    assert sync.sync(said.append) == 2
    assert said == ["bad: not shown in MLflow (OSError: gone)"]


def test_a_second_sync_reads_nothing_of_the_experiments_that_have_their_run(tmp_path, monkeypatch):
    """With 200 of them it took half a minute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    experiments, read = [("mine", "c" * 40, "b" * 40)], []
    monkeypatch.setattr("ferlab.recipes.with_result", lambda: [])
    monkeypatch.setattr(sync.dvc_files, "experiments", lambda: experiments)
    monkeypatch.setattr(
        sync.results, "key_of", lambda root, commit: read.append(commit) or "its key"
    )
    with store.store() as client:
        tags = {"ferlab.key": "its key", "ferlab.complete": "true"}
        client.create_run(client.create_experiment("ferlab-x"), tags=tags, run_name="mine")
    assert sync.sync() == sync.sync() == 1 and read == ["c" * 40]
    experiments[0] = ("mine", "d" * 40, "b" * 40)  # `dvc exp run --force` makes another of the name
    assert sync.sync() == 1 and read == ["c" * 40, "d" * 40]


def test_the_workspace_s_result_is_known_as_an_experiment_s(tmp_path):
    def commit(text):
        (tmp_path / "dvc.lock").write_text(text)
        for command in ("init -q", "add .", f"{AUTHOR} commit -qm x"):
            subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
        return dvc_files.git("rev-parse", "HEAD", folder=tmp_path).stdout.strip()

    commits = [commit("one\n"), commit("two\n")]
    assert results.is_one_of(tmp_path, commits)
    assert not results.is_one_of(tmp_path, commits[:1])
    assert not results.is_one_of(tmp_path, ["0" * 40])
    (tmp_path / "dvc.lock").unlink()
    assert not results.is_one_of(tmp_path, commits)
