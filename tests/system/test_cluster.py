"""Trainings on a real Ray cluster of two nodes on this machine: killed workers and nodes cost
nothing that was finished.
"""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from ferlab import params
from ferlab.data.dataset import Dataset
from ferlab.files import UserError
from ferlab.scaling import cluster as clusters
from ferlab.scaling import storage, sweep
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
            if " ".join(process.cmdline()).startswith("ray::train"):
                training.append(process.pid)
    return training


def test_killed_workers_nodes_and_drivers_change_no_byte(nodes, workspace, monkeypatch):
    made, second = nodes
    epochs, locations, faults = [], [], []

    class Observed(clusters.Cluster):
        """Causes the next of `faults` once both trainings have reported an epoch; notes the epochs,
        and on which nodes the faces lie when a training ends."""

        def share(self, dataset):
            self.shared = super().share(dataset)
            return self.shared

        def events(self, wait=0.1):
            import ray

            events = super().events(wait)
            epochs.extend(
                (name, content[0]["epoch"]) for name, kind, content in events if kind == "epoch"
            )
            if any(kind == "done" for _, kind, _ in events):
                objects = ray.experimental.get_object_locations([self.shared])
                locations.append(objects[self.shared]["node_ids"])
            if faults and len({name for name, _ in epochs}) == 2:
                faults.pop(0)()
            return events

    def connect(folder):
        return Observed(made.address, folder=folder, nodes=2)

    calm = sweep.sweep(sweep_named(workspace, "calm"), report=lambda line: None, cluster=connect)
    wanted = models(calm)
    assert len(wanted) == 2 == len(set(wanted.values()))
    assert len(epochs) == 8 and len(set(epochs)) == 8
    assert all(len(nodes) == len(set(nodes)) <= 2 for nodes in locations)
    assert len(locations[-1]) == 2

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

    # the driver: Ctrl-C, then the same command
    path = sweep_named(workspace, "driver")
    command = [
        sys.executable,
        "-m",
        "ferlab",
        "sweep",
        path,
        "--engine",
        "ray",
        "--address",
        made.address,
    ]
    folder = workspace / ".ferlab/sweeps/driver"
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: list(folder.glob("*.npz")) or driver.poll() is not None)
    driver.send_signal(signal.SIGINT)
    output = driver.communicate(timeout=120)[0]
    assert "the same command goes on from there" in output and driver.returncode == 1, output
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(re.findall(r"^trial \d/2: ", done.stdout, re.M)) == 2 and "best: " in done.stdout
    import optuna

    storage = f"sqlite:///{folder / 'study.db'}"
    [name] = optuna.get_all_study_names(storage)
    again = optuna.load_study(study_name=name, storage=storage)
    assert models(again) == wanted
    assert {trial.state.name for trial in again.trials} == {"COMPLETE", "FAIL"}
    assert not list(folder.glob("*.npz"))

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
    assert (
        time.monotonic() - began < 20
    )  # twice what is promised: a busy machine starts Python slowly
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_there_is_reported_within_ten_seconds(nodes, silent, tmp_path, monkeypatch):
    address = nodes[0].address
    assert "nobody answers" in refused(address=f"127.0.0.1:{servers.free_port()}", storage=tmp_path)
    assert "no Ray cluster answers there" in refused(
        address=f"127.0.0.1:{silent}", storage=tmp_path
    )
    for wrong in ("127.0.0.1", "ray://127.0.0.1:10001", "somewhere:http"):
        assert "must be local, auto or <host>:<port>" in refused(address=wrong, storage=tmp_path)
    assert "--nodes 7: 2 joined within" in refused(address=address, nodes=7, storage=tmp_path)
    assert "--threads 4: the largest node has 1 cores" in refused(
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


def test_this_machine_alone_a_full_storage_and_a_second_try(workspace, monkeypatch):
    """No address: Ray is started here, beside the other cluster. The first training cannot store
    its checkpoint.
    """
    monkeypatch.setenv(
        "RAY_AUTH_MODE", ""
    )  # Ray sets it for this process; here it ends with the test
    monkeypatch.delenv("RAY_AUTH_MODE")
    folder = workspace / "a folder"
    (folder / "full.npz.part").mkdir(parents=True)
    settings = params.load().train.model_copy(update={"epochs": 2})
    connection, events = clusters.Cluster(threads=os.cpu_count(), folder=folder), []
    try:
        shared = connection.share(Dataset.load(workspace / "data/balanced"))
        for name in ("full", "fine"):
            connection.start(name, shared, settings)
        while connection.running:
            events += connection.events()
            if "fine" in [name for name, kind, _ in events if kind == "epoch"]:
                connection.stop("fine")
        names = [name for name, kind, _ in events if kind == "epoch"]
        assert names == sorted(names, key=names.index), (
            "with room for one, two were trained at a time"
        )
        kinds = [(name, kind) for name, kind, _ in events]
        assert kinds.count(("full", "unsaved")) == 1 and ("full", "done") in kinds
        unsaved = next(content for _, kind, content in events if kind == "unsaved")
        assert "could not be resumed" in unsaved
        if ("fine", "stopped") in kinds:  # it may have been faster
            assert (folder / "fine.npz").exists()
        events.clear()
        connection.start("fine", shared, settings)  # once stopped is not stopped for ever
        while connection.running:
            events += connection.events()
        epochs = [content[0]["epoch"] for _, kind, content in events if kind == "epoch"]
        assert epochs == [1, 2]
        assert [kind for _, kind, _ in events if kind != "epoch"][-1] == "done"
    finally:
        connection.close()


def test_checkpoints_lie_in_s3_too(tmp_path, monkeypatch):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # which knows another address, of the test before
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ferlab")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with servers.s3(tmp_path, "sweeps") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        stored = storage.Checkpoint("s3://sweeps/first", "abc")
        local = tmp_path / "checkpoint.npz"
        stored.get(local)
        assert not local.exists()
        for content in (b"one", b"two"):
            local.write_bytes(content)
            stored.put(local)
            storage.Checkpoint("s3://sweeps/first", "abc").get(local)
            assert local.read_bytes() == content
        stored.remove()
        local.unlink()
        stored.get(local)
        assert not local.exists()
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_workspace_is_trained_on_the_cluster_to_the_same_bytes(nodes, tmp_path):
    repository = Repository(tmp_path / "repository")
    one = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    repository("dvc repro train", **one)
    model = repository.path / "models/model.keras"
    wanted = hashlib.sha256(model.read_bytes()).hexdigest()
    said = repository(
        "dvc repro --force --single-item train", FERLAB_RAY=nodes[0].address, FERLAB_THREADS="1"
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
    said = repository(command)
    assert "ho_2016_baseline: epoch   1/1" in said and "speedrun: epoch   1/1" in said
    for key in ("ho_2016_baseline", "speedrun"):
        assert (repository.path / f"recipes/results/{key}/metrics.json").exists()
        assert repository(f"dvc --cd recipes status -q train@{key} evaluate@{key}") == ""
    assert ": epoch" not in repository(command)  # nothing is stale
    wrong = repository.run("python -m ferlab run-recipes silva --engine ray")
    assert (
        wrong.returncode == 1
        and "no network 'silva', did you mean silva_2025? known: " in wrong.stderr
    )
