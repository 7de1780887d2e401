"""An MLflow server with PostgreSQL, and four writers at a time; then the server dies in the midst of a training."""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import children
from tests.repository import answers, wait_for

pytestmark = pytest.mark.slow
EPOCHS = 12


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def programs():
    """Where PostgreSQL's programs lie; Debian keeps them off the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name), reverse=True)
    return next((place for place in [*places, Path(shutil.which("initdb") or "/nowhere").parent]
                 if (place / "initdb").exists()), None)


@pytest.fixture(scope="module")
def postgresql():
    """The address of an empty database in a temporary cluster on loopback; PostgreSQL refuses to run as root."""
    place = programs()
    if not place:
        assert os.environ.get("CI") != "true", "CI must have PostgreSQL: apt-get install postgresql"
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="ferlab-postgresql-"))
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        shutil.chown(folder, other["user"])
    port = free_port()

    def call(program, *arguments):
        subprocess.run([place / program, *arguments], cwd=folder, check=True, capture_output=True, **other)

    try:
        call("initdb", "-D", folder / "data", "-U", "ferlab", "--auth", "trust", "-E", "UTF8", "--no-sync")
        # an empty string: no socket file, whose default folder is another user's
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
        call("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-t", "300", "-o", options, "start")
        yield f"postgresql+psycopg2://ferlab@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            call("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


class Server:
    """`mlflow server` on loopback, which can be killed and started again on the same address."""

    def __init__(self, database, folder):
        self.database, self.folder, self.port = database, folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
                   "--workers", "1", "--backend-store-uri", self.database, "--artifacts-destination", self.folder / "artifacts"]
        self.log = open(self.folder / "log", "ab")  # noqa: SIM115 - closed in kill
        # MLflow's jobs are not used here, and would be seven more processes
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        try:
            wait_for(lambda: answers(self.port) or self.process.poll() is not None)
            assert self.process.poll() is None, (self.folder / "log").read_text()
        except BaseException:
            self.kill()
            raise

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        wait_for(lambda: not answers(self.port))


@pytest.fixture(scope="module")
def server(postgresql, tmp_path_factory):
    made = Server(postgresql, tmp_path_factory.mktemp("server"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return children.workspace(tmp_path_factory.mktemp("servers") / "prepared", epochs=EPOCHS)


def test_four_writers_at_a_time_lose_no_run_and_no_point(server, prepared, tmp_path):
    patient = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "300"}  # a slow server is not a dead one
    folders = [tmp_path / f"writer-{seed}" for seed in range(4)]
    for seed, folder in enumerate(folders):
        shutil.copytree(prepared, folder)
        children.configure(folder, seed=seed)
    for name in ("train", "evaluate"):
        writers = [children.Child(folder, name, **patient) for folder in folders]
        for code, said, _ in [writer.end() for writer in writers]:
            assert code == 0, said
            assert "warning" not in said
    found = children.runs(server.address)
    assert [run.info.status for run in found] == ["FINISHED"] * 4
    assert {run.data.params["train.seed"] for run in found} == {"0", "1", "2", "3"}
    for run in found:
        assert run.steps == list(range(1, EPOCHS + 1))
        assert run.data.tags["ferlab.complete"] == "true"


def test_a_server_that_dies_in_mid_run_gets_the_run_from_sync(server, prepared, tmp_path):
    folder, release = tmp_path / "repository", tmp_path / "release"
    shutil.copytree(prepared, folder)
    children.configure(folder, seed=9)

    def mine():
        return [run for run in children.runs(server.address) if run.data.params["train.seed"] == "9"]

    child = children.Child(folder, "train", functools.partial(children.wait_after_epoch, 2, release),
                           MLFLOW_TRACKING_URI=server.address)
    wait_for(lambda: any(run.steps for run in mine()))
    server.kill()
    release.touch()
    code, said, _ = child.end()
    assert code == 0, said
    assert "warning: not shown in MLflow" in children.run(folder, "evaluate", MLFLOW_TRACKING_URI=server.address)
    children.pin(folder)
    server.start()
    children.run(folder, "ferlab sync", MLFLOW_TRACKING_URI=server.address)
    run, = mine()
    assert run.info.status == "FINISHED"
    assert run.steps == list(range(1, EPOCHS + 1))
