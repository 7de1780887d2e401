"""An MLflow server on PostgreSQL with four writers at a time; then it dies during a training."""

import functools
import shutil

import pytest

from tests import children, servers
from tests.repository import wait_for

pytestmark = pytest.mark.slow
EPOCHS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.postgresql() as database:
        made = servers.Server(database, tmp_path_factory.mktemp("server"))
        yield made
        made.kill()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return children.workspace(tmp_path_factory.mktemp("servers") / "prepared", epochs=EPOCHS)


def test_four_writers_at_a_time_lose_no_run_and_no_point(server, prepared, tmp_path):
    # a slow server is not a dead one
    patient = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "300"}
    folders = [tmp_path / f"writer-{seed}" for seed in range(4)]
    for seed, folder in enumerate(folders):
        shutil.copytree(prepared, folder)
        children.configure(folder, seed=seed)
    for name in ("train", "predict", "evaluate"):
        writers = [children.Child(folder, name, **patient) for folder in folders]
        for code, output, _ in [writer.end() for writer in writers]:
            assert code == 0, output
            assert "warning" not in output
    runs = children.runs(server.address)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert {run.data.params["train.seed"] for run in runs} == {"0", "1", "2", "3"}
    for run in runs:
        assert run.steps == list(range(1, EPOCHS + 1))
        assert run.data.tags["ferlab.complete"] == "true"


def test_a_server_that_dies_in_mid_run_gets_the_run_from_sync(server, prepared, tmp_path):
    folder, release = tmp_path / "repository", tmp_path / "release"
    shutil.copytree(prepared, folder)
    children.configure(folder, seed=9)

    def mine():
        return [
            run
            for run in children.runs(server.address)
            if run.data.params.get("train.seed") == "9"  # a run of this moment has none yet
        ]

    child = children.Child(
        folder,
        "train",
        functools.partial(children.wait_after_epoch, 2, release),
        MLFLOW_TRACKING_URI=server.address,
    )
    wait_for(lambda: any(run.steps for run in mine()))
    server.kill()
    release.touch()
    code, output, _ = child.end()
    assert code == 0, output
    children.run(folder, "predict")
    assert "warning: not shown in MLflow" in children.run(
        folder, "evaluate", MLFLOW_TRACKING_URI=server.address
    )
    children.pin(folder)
    server.start()
    children.run(folder, "ferlab sync", MLFLOW_TRACKING_URI=server.address)
    (run,) = mine()
    assert run.info.status == "FINISHED"
    assert run.steps == list(range(1, EPOCHS + 1))
