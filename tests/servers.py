"""Servers on loopback for tests: PostgreSQL in a temporary cluster, MLflow on it, S3 by moto."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.repository import answers, wait_for


def free_port():
    """A port of loopback that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def programs():
    """The folder of PostgreSQL's programs, which Debian keeps off the path, or None."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: float(folder.parent.name),
        reverse=True,
    )
    folders.append(Path(shutil.which("initdb") or "/nowhere").parent)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def postgresql():
    """Yield the address of an empty database in a temporary cluster on loopback."""
    bin_folder = programs()
    if not bin_folder:
        assert os.environ.get("CI") != "true", "CI must have PostgreSQL: apt-get install postgresql"
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="ferlab-postgresql-"))
    # PostgreSQL refuses to run as root
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        shutil.chown(folder, other["user"])
    port = free_port()

    def call(program, arguments, *more):
        subprocess.run(
            [bin_folder / program, "-D", folder / "data", *arguments.split(), *more],
            cwd=folder,
            check=True,
            capture_output=True,
            **other,
        )

    try:
        call("initdb", "-U ferlab --auth trust -E UTF8 --no-sync")
        # an empty string: no socket file, whose default folder is another user's
        options = "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        call("pg_ctl", "-l log -w -t 300", "-o", f"{options} -c port={port}", "start")
        yield f"postgresql+psycopg2://ferlab@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            call("pg_ctl", "-m immediate stop")
        shutil.rmtree(folder)


class Server:
    """`mlflow server` on loopback, which can be killed and started again on the same address."""

    def __init__(self, database, folder, artifacts=None, **environment):
        self.database, self.folder, self.port = database, folder, free_port()
        self.artifacts, self.environment = artifacts or folder / "artifacts", environment
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        options = f"--host 127.0.0.1 --port {self.port} --workers 1"
        stores = ["--backend-store-uri", self.database, "--artifacts-destination", self.artifacts]
        command = [Path(sys.executable).parent / "mlflow", "server", *options.split(), *stores]
        self.log = open(self.folder / "log", "ab")  # noqa: SIM115 - closed in kill
        # MLflow's jobs are not used here, and would be seven more processes
        environment = (
            os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | self.environment
        )
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
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


@contextlib.contextmanager
def s3(folder, *buckets):
    """Yield the address of an S3 server with these empty buckets, which takes any credentials."""
    import urllib.request

    port = free_port()
    with open(folder / "s3.log", "wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(lambda: answers(port))
            for bucket in buckets:
                urllib.request.urlopen(
                    urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
