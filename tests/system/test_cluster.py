"""Trainings on a real Ray cluster of two nodes on this machine: killed workers and nodes cost
nothing that was finished.
"""

import contextlib
import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile

import pytest

from ferlab import params
from ferlab.data.dataset import Dataset
from ferlab.files import UserError
from ferlab.scaling import cluster as clusters
from ferlab.scaling import sweep, tuning
from ferlab.scaling import trainable as trainable_module
from tests import servers
from tests.repository import Repository, wait_for
from tests.synthetic import trainable

pytestmark = pytest.mark.slow
SWEEP = """
name: NAME
trials: 2
seed: 0
ranges:
  train.learning_rate: {from: 0.0001, to: 0.02, log: true}
"""


@pytest.fixture(scope="module")
def nodes():
    """(Ray's test cluster with a head of one core, a second node of one core)."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False},
    )
    second = made.add_node(num_cpus=1, object_store_memory=10**8)
    yield made, second
    made.shutdown()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """These tests may run beside others that use all cores."""
    monkeypatch.setenv("FERLAB_PATIENCE", "60")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose trials last four epochs of a second or more each."""
    return trainable(
        tmp_path,
        monkeypatch,
        {"angry": (400, 4, 4), "happy": (400, 10, 10)},
        epochs=4,
        batch_size=32,
    )


def sweep_named(workspace, name):
    path = workspace / f"{name}.yaml"
    path.write_text(SWEEP.replace("NAME", name))
    return path


def models(study):
    """{parameters: hash of the model} of the trials that were finished."""
    return {
        tuple(trial.params.values()): trial.user_attrs["model"]
        for trial in study.trials
        if "model" in trial.user_attrs
    }


def workers():
    """Process ids of Ray's workers that are training."""
    import psutil

    training = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::ImplicitFunc"):
                training.append(process.pid)
    return training


def test_killed_workers_nodes_and_drivers_change_no_byte(nodes, workspace, monkeypatch):
    made, second = nodes
    epochs, faults, report = [], [], tuning.Running.report

    def observed(running, trial, content):
        """Cause the next of `faults` once both trainings have reported an epoch."""
        report(running, trial, content)
        if "row" in content:
            epochs.append((trial.trial_id, content["epoch"]))
            if faults and len({name for name, _ in epochs}) == 2:
                faults.pop(0)()

    monkeypatch.setattr(tuning.Running, "report", observed)

    def connect(folder):
        return clusters.Cluster(made.address, folder=folder, nodes=2)

    calm = sweep.sweep(sweep_named(workspace, "calm"), report=lambda line: None, cluster=connect)
    wanted = models(calm)
    assert len(wanted) == 2 == len(set(wanted.values()))
    assert len(epochs) == 8 and len(set(epochs)) == 8

    epochs.clear()
    faults += [
        lambda: os.kill(workers()[0], signal.SIGKILL),
        lambda: made.remove_node(second, allow_graceful=False),
    ]
    lines = []
    struck = sweep.sweep(sweep_named(workspace, "struck"), report=lines.append, cluster=connect)
    made.add_node(num_cpus=1, object_store_memory=10**8)
    assert not faults
    assert models(struck) == wanted
    assert len(epochs) == 8 and len(set(epochs)) == 8, "an epoch was reported twice or never"
    assert lines[-1].startswith("best: ")

    # the command: killed, then Ctrl-C, then to its end
    path = sweep_named(workspace, "driver")
    options = ["--engine", "ray", "--address", made.address]
    command = [sys.executable, "-m", "ferlab", "sweep", path, *options]
    folder = workspace / ".ferlab/sweeps/driver"

    def stopped(how, checkpoints):
        """The command's output, once it was sent a signal after so many checkpoints."""
        driver = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_for(
            lambda: (
                len(list(folder.glob(f"*/*/checkpoint_*{checkpoints}")))
                or driver.poll() is not None
            )
        )
        driver.send_signal(how)
        return driver.communicate(timeout=120)[0], driver.returncode

    assert stopped(signal.SIGKILL, 0)[1] == -signal.SIGKILL
    output, code = stopped(signal.SIGINT, 2)
    if code == 0:  # the last epochs were over before the signal came
        assert "best: " in output
    else:
        assert "the same command goes on from there" in output and code == 1, output
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "best: " in finished.stdout
    import optuna

    storage = f"sqlite:///{folder / 'study.db'}"
    [name] = optuna.get_all_study_names(storage)
    again = optuna.load_study(study_name=name, storage=storage)
    done = models(again)  # what Tune had not yet noted when it was killed may be drawn anew
    assert len(done) == 2 and done.items() & wanted.items()
    assert all(wanted.get(values, model) == model for values, model in done.items())
    assert sorted(trial.state.name for trial in again.trials)[:2] == ["COMPLETE", "COMPLETE"]
    assert not [path for path in folder.iterdir() if path.is_dir()]

    from ferlab.tracking import store

    with store.store() as client:
        runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
        assert {run.info.status for run in runs} <= {
            "FINISHED",
            "KILLED",
        }  # killed: of the driver, where it had reported an epoch
        runs = [run for run in runs if run.info.status == "FINISHED"]
        assert len(runs) == 6
        assert all(
            len(client.get_metric_history(run.info.run_id, "epoch/selection_accuracy")) == 4
            for run in runs
        )


def test_a_training_has_no_more_threads_than_it_was_given(nodes, tmp_path):
    connection = clusters.Cluster(nodes[0].address, folder=tmp_path)
    try:
        task = connection.ray.remote(
            lambda: (os.environ["OMP_NUM_THREADS"], os.environ["TF_NUM_INTRAOP_THREADS"])
        )
        assert connection.ray.get(task.remote()) == ("1", "1")
    finally:
        connection.close()


def test_an_error_of_a_training_is_one_line_and_the_rest_is_kept(nodes, workspace):
    path = sweep_named(workspace, "impossible")
    ranges = "train.learning_rate: {from: 0.0001, to: 0.02, log: true}"
    path.write_text(path.read_text().replace(ranges, "train.model: [silva_2025]"))
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(
        text.replace("low_resolution: 0.0", "low_resolution: 0.5")
    )
    with pytest.raises(
        UserError, match="the network silva_2025 takes no faces of 32x32; set it to 0"
    ):
        sweep.sweep(
            path,
            report=lambda line: None,
            cluster=lambda folder: clusters.Cluster(nodes[0].address, folder=folder),
        )


@pytest.fixture
def silent():
    """The port of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def refused(storage, **arguments):
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        clusters.Cluster(folder=None, storage=storage, **arguments)
    assert time.monotonic() - began < 60  # ten are promised; a busy machine starts Python slowly
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_there_is_reported_soon(nodes, silent, tmp_path, monkeypatch):
    monkeypatch.delenv("FERLAB_PATIENCE")
    address = nodes[0].address
    assert "nobody answers" in refused(address=f"127.0.0.1:{servers.free_port()}", storage=tmp_path)
    assert "no Ray cluster answers there" in refused(
        address=f"127.0.0.1:{silent}", storage=tmp_path
    )
    for wrong in ("127.0.0.1", "ray://127.0.0.1:10001", "somewhere:http"):
        assert "must be local, auto or <host>:<port>" in refused(address=wrong, storage=tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("FERLAB_PATIENCE", "soon")
        assert "FERLAB_PATIENCE=soon: must be a number" in refused(
            address=address, storage=tmp_path
        )
    assert "--nodes 7: 2 joined within" in refused(address=address, nodes=7, storage=tmp_path)
    assert "--threads 4 (FERLAB_THREADS for a stage): the largest node has 1 core" in refused(
        address=address, threads=4, storage=tmp_path
    )
    (tmp_path / "file").write_text("")
    assert "--storage file://" in refused(address=address, storage=tmp_path / "file/below")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    assert "--storage s3://bucket/x: no answer within" in refused(
        address=address, storage="s3://bucket/x"
    )


@pytest.fixture
def single(workspace, monkeypatch):
    """A function (folder, on_epoch, on_wait, epochs) that trains on a cluster of this machine
    alone, started beside the other one; returns what `cluster.fit` gives.
    """
    monkeypatch.setenv("RAY_AUTH_MODE", "")  # Ray sets it for this process; here it ends
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("FERLAB_RAY", "local")
    monkeypatch.setenv("FERLAB_THREADS", "1")
    dataset = Dataset.load(workspace / "data/balanced")

    def train(folder, on_epoch, on_wait, epochs):
        settings = params.load().train.model_copy(update={"epochs": epochs})
        return clusters.fit(dataset, settings, folder, on_epoch, lambda: None, on_wait)

    return train


def test_a_full_storage_costs_the_resume_and_not_the_training(single, workspace, capsys):
    epochs, folder = [], workspace / "a folder"

    def full(row, seconds):
        """After the first epoch there is no room for another checkpoint."""
        epochs.append(row["epoch"])
        [trial] = (path.parent for path in folder.glob("*/*/checkpoint_000000"))
        (trial / "checkpoint_000001").write_text("in the way")

    finished, forget = single(folder, full, lambda: None, epochs=2)
    assert epochs == [1, 2] and len(finished["history"]) == 2
    assert capsys.readouterr().out.count("could not be resumed") == 1
    assert zipfile.is_zipfile(io.BytesIO(finished["model"]))
    forget()
    assert not list(folder.iterdir())


def test_checkpoints_lie_in_s3_too_and_a_second_command_resumes_from_there(
    single, workspace, tmp_path, monkeypatch, capsys
):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # which knows another address, of the test before
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ferlab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("FERLAB_STORAGE", "s3://sweeps/first")
    epochs, began = [], []

    def epoch(row, seconds):
        epochs.append(row["epoch"])
        began.append(time.monotonic())

    def ends():
        if began and time.monotonic() > began[0] + 4:  # by then Tune has noted it
            raise UserError("dvc has ended")

    with servers.s3(tmp_path, "sweeps") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(UserError, match="^dvc has ended"):
            single(workspace / "stage", epoch, ends, epochs=10)
        again = len(epochs)
        finished, forget = single(workspace / "stage", epoch, lambda: None, epochs=10)
        assert "resuming an interrupted training" in capsys.readouterr().out
        assert 1 < epochs[again] < 10 and epochs[again:] == list(range(epochs[again], 11))
        assert list(finished["history"]["epoch"]) == list(range(1, 11))
        stored = s3fs.S3FileSystem()
        assert stored.find("sweeps/first/stage")
        forget()
        stored.invalidate_cache()
        assert not stored.find("sweeps/first/stage")
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_workspace_is_trained_on_the_cluster_to_the_same_bytes(nodes, tmp_path):
    repository = Repository(tmp_path / "repository")
    one = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    repository("dvc repro train", **one)
    model = repository.path / "models/model.keras"
    wanted = hashlib.sha256(model.read_bytes()).hexdigest()
    said = repository(
        "dvc repro --force --single-item train",
        FERLAB_RAY=nodes[0].address,
        FERLAB_THREADS="1",
        FERLAB_PATIENCE="60",
    )
    assert "epoch   2/2" in said
    assert hashlib.sha256(model.read_bytes()).hexdigest() == wanted
    assert repository("dvc status train").strip().endswith("Data and pipelines are up to date.")
    assert not list((repository.path / ".ferlab/resume").glob("*"))
    broken = repository.run(
        "dvc repro --force --single-item train", FERLAB_RAY=f"127.0.0.1:{servers.free_port()}"
    )
    assert broken.returncode and "nobody answers" in broken.stdout + broken.stderr


def test_recipes_are_trained_side_by_side_and_evaluated(nodes, tmp_path):
    repository = Repository(tmp_path / "repository")
    for recipe in ("ho_2016_baseline", "speedrun"):
        path = repository.path / f"recipes/{recipe}.yaml"
        path.write_text(re.sub(r"epochs: \d+", "epochs: 1", path.read_text()))
    text = (repository.path / "recipes/params.yaml").read_text()
    (repository.path / "recipes/params.yaml").write_text(
        text.replace("dataset: fer2013", "dataset: data.zip")
    )
    keys = "ho_2016_baseline speedrun"
    command = (
        f"python -m ferlab run-recipes {keys} --engine ray --address {nodes[0].address} --threads 1"
    )
    said = repository(command, FERLAB_PATIENCE="60")
    assert "ho_2016_baseline: epoch   1/1" in said and "speedrun: epoch   1/1" in said
    for key in ("ho_2016_baseline", "speedrun"):
        assert (repository.path / f"recipes/results/{key}/metrics.json").exists()
        assert repository(f"dvc --cd recipes status -q train@{key} evaluate@{key}") == ""
    assert ": epoch" not in repository(command, FERLAB_PATIENCE="60")  # nothing is stale
    wrong = repository.run("python -m ferlab run-recipes silva --engine ray")
    assert (
        wrong.returncode == 1
        and "no network 'silva', did you mean silva_2025? known: " in wrong.stderr
    )


def test_a_node_whose_packages_differ_refuses(monkeypatch):
    reports = []
    monkeypatch.setattr(trainable_module.tune, "report", reports.append)
    here = trainable_module.versions()
    others = {name: version for name, version in here.items() if name != "numpy"}
    trainable_module.train({}, None, None, others | {"keras": "0.1"})
    (report,) = reports
    assert report["failed"] == (
        f"node {socket.gethostname()} has keras {here['keras']} where the command has 0.1, "
        f"numpy {here['numpy']} where the command has none; install the command's lock there"
    )
