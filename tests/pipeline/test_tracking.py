"""What MLflow shows, and its own races, as several writers meet them (test_servers.py has them)."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from ferlab import dvc_files, files, recipes
from ferlab.files import UserError
from ferlab.tracking import artifacts, provenance, results, runs, store, sync, ui, writing
from ferlab.tracking.epoch_logger import EpochLogger
from tests.repository import TOP

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


@pytest.fixture
def record(tmp_path, monkeypatch):
    """The working directory: recipes/ with one result, which ended at a known moment."""
    left_out = shutil.ignore_patterns("runs", "results")
    shutil.copytree(TOP / "recipes", tmp_path / "recipes", ignore=left_out)
    shutil.copytree(TOP / "recipes/results/speedrun", tmp_path / "recipes/results/speedrun")
    path = tmp_path / "recipes/results/speedrun/run.json"
    files.write_json(path, files.read_json(path) | {"finished": "2026-11-20T12:00:00Z"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.slow
def test_a_run_has_its_true_time_a_line_about_it_and_scores_grouped_by_what_they_are_of(record):
    run_id = runs.project_recipe("speedrun")
    (line,) = ui.links("http://127.0.0.1:5000/")
    _, details, history, known = recipes.read_result("speedrun")
    with store.store() as client:
        run = client.get_run(run_id)
        points = client.get_metric_history(run_id, "epoch/selection_accuracy")
        experiment = client.get_experiment(run.info.experiment_id)
    end = provenance.end(known)
    assert run.info.end_time == 1000 * end == 1795176000000
    assert run.info.start_time == pytest.approx(1000 * (end - known["train_seconds"]), abs=1)
    assert len(points) == len(history) and points[-1].timestamp == pytest.approx(1000 * end, abs=99)
    passed = points[1].timestamp - points[0].timestamp
    assert passed == pytest.approx(1000 * known["epochs"][1], abs=1)
    scores = details["splits"]["private"]
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(f"{100 * scores['accuracy']:.2f} % of 3,589 private images right (95 % ")
    assert f"{100 * scores['accuracy_low']:.2f} to" in note and "small on fer2013" in note
    assert {name.partition("/")[0] for name in run.data.metrics} == {
        *("epoch", "train", "public", "private", "private_unseen", "test", "ferplus")
    }
    address = urlsplit(line.partition(": ")[2])
    wanted = parse_qs(address.fragment.partition("?")[2])
    assert address.fragment.startswith(f"/experiments/{run.info.experiment_id}/runs?")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{wanted['viewStateShareKey'][0]}"])
    assert view["orderByKey"] == "metrics.`private/accuracy`" and not view["orderByAsc"]
    shown = [name.removeprefix("metrics.").strip("`") for name in view["selectedColumns"]]
    assert [run.data.metrics[name] for name in shown] == pytest.approx(
        [scores["accuracy"], scores["f1_macro"], scores["per_class"]["disgust"]["recall"]], abs=1e-5
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("private_accuracy_low", "private/accuracy_low"),
        ("private_unseen_accuracy", "private_unseen/accuracy"),
        ("private_six_class_accuracy", "private/six_class_accuracy"),
        ("disgust_recall", "test/disgust_recall"),
        ("loss", "test/loss"),
        ("public_recall", "test/public_recall"),  # of a class of that name
    ],
)
def test_a_score_is_grouped_by_its_split(name, shown):
    assert writing.metric_name(name, "test", ("disgust", "public")) == shown


def test_a_run_that_does_not_say_when_it_ended_bears_the_day_of_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_text("model")
    provenance.write_run(tmp_path / "model", {"train_seconds": 3})
    (path,) = (tmp_path / ".ferlab/runs").iterdir()
    os.utime(path, (1e9, 1e9))
    assert provenance.read_run(tmp_path / "model")["finished"] == "2001-09-09T01:46:40Z"


def test_the_page_is_served_to_this_machine_alone_and_unpickles_nothing(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **named: started.append((given, named)))
    ui._start("postgresql://me:secret@db/runs", 5000)
    ((command,), named) = started[0]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "secret" not in " ".join(command)
    assert named["env"]["MLFLOW_BACKEND_STORE_URI"].endswith("secret@db/runs")
    assert named["env"]["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_a_page_that_cannot_be_served_is_told(monkeypatch):
    monkeypatch.setattr(ui.store, "ready", lambda: "sqlite:///none.db")
    monkeypatch.setattr(ui, "_complete", lambda *_: None)
    asked = []

    def start(place, port):
        asked.append(port)
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(ui, "_start", start)
    monkeypatch.setattr(ui.signal, "signal", lambda *_: None)
    with pytest.raises(files.UserError, match="mlflow ui ended with exit code 3"):
        ui.serve(0)
    assert asked[0] > 0, "a free port was chosen before its address is told"
    with pytest.raises(
        files.UserError,
        match="70000: no port from 0 to 65535; take another: python -m ferlab ui --port",
    ):
        ui.serve(70000)


@pytest.mark.slow
def test_make_ui_prints_the_page_s_address_and_leaves_no_process(record):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        taken = subprocess.run(
            [sys.executable, "-m", "ferlab", "ui", "--port", str(port)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(TOP)},
        )
    assert taken.returncode == 1
    assert taken.stderr == (
        f"error: 127.0.0.1:{port}: Address already in use; take another: "
        "python -m ferlab ui --port 5001\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "ferlab", "ui", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TOP)},
    )
    try:
        lines = []
        while not lines or not lines[-1].startswith("ferlab-fer2013: "):
            lines.append(running.stdout.readline())
            assert lines[-1], lines
        with urllib.request.urlopen(lines[-1].partition(": ")[2], timeout=60) as page:
            assert b"<title>MLflow</title>" in page.read()
        started = psutil.Process(running.pid).children(recursive=True)
        assert started
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_a_second_sync_reads_nothing_of_the_experiments_that_have_their_run(tmp_path, monkeypatch):
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
