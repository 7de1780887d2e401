"""The MLflow store: opening it safely, and the runs whose process has died."""

import contextlib
import fcntl
import os
import socket
import sqlite3
import warnings
from pathlib import Path

from ferlab import files


@contextlib.contextmanager
def store():
    """Yield an MlflowClient of the tracking store: MLFLOW_TRACKING_URI, else mlflow.db.

    A local store is opened by one process at a time: SQLite and its first set-up need that.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default retries for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow

    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and address.startswith("sqlite:///") and not address.startswith("sqlite:////"):
        # beside the main repository's files, not in a temporary workspace
        address = f"sqlite:///{files.root() / address.removeprefix('sqlite:///')}"
    if address and not address.startswith("sqlite"):
        mlflow.set_tracking_uri(address)
        yield mlflow.MlflowClient()
        return
    guard = files.root() / ".ferlab/mlflow.lock"
    guard.parent.mkdir(parents=True, exist_ok=True)
    with open(guard, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        address = address or f"sqlite:///{files.root() / 'mlflow.db'}"
        database = Path(address.removeprefix("sqlite:///"))
        if not database.exists():
            # MLflow sets a new file up in many steps, and refuses one that a kill left half done
            with files.replacing(database) as part:
                mlflow.MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments()
        _check(database)
        mlflow.set_tracking_uri(address)
        yield mlflow.MlflowClient()


def exists():
    """Whether there is a store that could know a run: asking MLflow takes seconds."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (files.root() / "mlflow.db").exists()


@contextlib.contextmanager
def answering():
    """Turn MLflow's own errors inside into a UserError: the store does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise files.UserError(
            f"MLflow does not answer ({files.one_line(error)}); python -m ferlab doctor"
        ) from None


def _check(database):
    """UserError where the SQLite file is held by another program or damaged.

    MLflow itself would try for many minutes.
    """
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        raise files.UserError(
            f"{database}: {error}; end the program that holds it, then `python -m ferlab sync`"
        ) from None
    except sqlite3.DatabaseError as error:
        raise files.UserError(
            f"{database}: {error}; move it away, then `python -m ferlab sync` makes another"
        ) from None


def mark_dead_runs(client):
    """Mark runs of this host as killed whose process has ended."""
    for run in dead_runs(client):
        client.set_terminated(run.info.run_id, "KILLED")


def dead_runs(client):
    """Yield the runs of this host that MLflow shows as running, but whose process has ended."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    host = f"tags.`ferlab.host` = '{socket.gethostname()}'"
    for run in client.search_runs(ids, f"{host} and attributes.status = 'RUNNING'"):
        if not is_alive(run.data.tags):
            yield run


def is_alive(tags):
    """True where the process of this host that `process` described is still running."""
    import psutil

    try:
        running = psutil.Process(int(tags["ferlab.pid"]))
        # the clock may have been set since; and where a container's first process collects no
        # orphans, one that has ended stays listed
        is_same = abs(running.create_time() - float(tags["ferlab.started"])) < 5
        return is_same and running.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError):
        return False


def process():
    """Host, process id and start of this process, as the tags of a run."""
    import psutil

    return {
        "ferlab.host": socket.gethostname(),
        "ferlab.pid": str(os.getpid()),
        "ferlab.started": str(psutil.Process().create_time()),
    }
