"""The MLflow store: opening it safely, and the runs whose process has died."""

import contextlib
import fcntl
import os
import re
import shlex
import socket
import sqlite3
import warnings
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ferlab import files, secrets
from ferlab.tracking.store.address import ARTIFACTS, Trouble, address, answers, database

NO_SERVER = (
    "start the server or unset it; no result is lost, `python -m ferlab sync` delivers them later"
)
PLACES = {  # where MLflow notes places of files
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


@contextlib.contextmanager
def store():
    """Yield an MlflowClient of the tracking store: MLFLOW_TRACKING_URI, else mlflow.db.

    A local store is opened by one process at a time: SQLite and its first set-up need that. Raises
    Trouble where the store cannot be used, and for what MLflow itself raises inside.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default retries for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # may hold a token
    warnings.filterwarnings("ignore", module="mlflow")
    place = address()
    import mlflow
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _opened(place):
            mlflow.set_tracking_uri(place)
            yield mlflow.MlflowClient()
    except (mlflow.MlflowException, SQLAlchemyError) as error:
        raise _trouble(error, place) from None
    except Exception as error:  # of a server's files, which lie at S3 or behind HTTP
        if type(error).__module__.partition(".")[0] not in ("requests", "urllib3", "botocore"):
            raise
        raise _trouble(error, place) from None


def ready():
    """The address of the store, set up, sound, and pointing at the files beside it.

    For another program that opens it. Raises Trouble where it cannot be used.
    """
    place = address()
    with _opened(place):
        return place


def exists():
    """Whether there is a store that could know a run: asking MLflow takes seconds."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (files.root() / "mlflow.db").exists()


@contextlib.contextmanager
def _opened(place):
    """Hold a local store, which is set up, sound, and points at the files beside it."""
    file = database(place)
    if not file:
        if not place.startswith("http") and not answers(place):  # MLflow would try for minutes
            raise Trouble(f"MLFLOW_TRACKING_URI={place}: nobody answers", NO_SERVER)
        yield
        return
    guard = files.root() / ".ferlab/mlflow.lock"
    guard.parent.mkdir(parents=True, exist_ok=True)
    with open(guard, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            import mlflow

            # MLflow sets a new file up in many steps, and refuses one that a kill left half done
            with files.replacing(file) as part:
                mlflow.MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments()
        _check(file)
        yield


def _check(file):
    """Trouble where the SQLite file is held by another program or damaged.

    MLflow itself would try for many minutes.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=5)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            _relocate(connection, file.resolve().parent)
            connection.commit()
    except sqlite3.OperationalError as error:
        raise Trouble(
            f"{file}: {error}", "end the program that holds it, then `python -m ferlab sync`"
        ) from None
    except sqlite3.DatabaseError as error:
        raise Trouble(f"{file}: {error}", f"{_away(file)} makes another") from None


def _relocate(connection, folder):
    """Let the store in `folder` name the files beside it, after it was copied, moved or renamed.

    MLflow notes absolute places: a copy would go on writing into the old folder. A database kept
    apart from its files (made so by an older version) is left as it is.
    """
    has_files = (folder / ARTIFACTS).exists()
    noted = [  # a database of an older MLflow has fewer
        (table, column)
        for table, columns in PLACES.items()
        for column in columns
        if connection.execute(
            "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)
        ).fetchone()
    ]
    if not noted or not (folder == files.root() or has_files):
        return
    places = connection.execute(
        "SELECT artifact_location FROM experiments WHERE name LIKE 'ferlab-%'"
    ).fetchall()
    # each place once: what is moved into a subfolder of its old place begins with it still
    for old in sorted({place.rpartition(f"/{ARTIFACTS}/")[0] for (place,) in places}):
        if not old.startswith("file:///") or old == folder.as_uri():
            continue
        for before, after in (
            (old, folder.as_uri()),
            (unquote(urlsplit(old).path), str(folder)),  # as MLflow's own experiments have it
        ):
            for table, column in noted:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, len(before) + 1, f"{before}/"),
                )


def _trouble(error, place):
    """The Trouble of what MLflow raised."""
    shown, file = secrets.one_line(error), database(place)
    schema = re.search(r"database schema \(found version (\w+)", str(error))
    if not schema:
        if re.search(r"error (code )?40[13]\b", shown):
            fix = "export MLFLOW_TRACKING_USERNAME=<you> MLFLOW_TRACKING_PASSWORD=<password>"
            return Trouble(f"MLflow refuses access ({shown})", fix)
        return Trouble(f"MLflow does not answer ({shown})", "python -m ferlab doctor")
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store/db_migrations/versions"
    if any(migrations.glob(f"{schema[1]}_*.py")):
        return Trouble(
            f"{file or place}: was written by an older MLflow",
            f"mlflow db upgrade {place} (make a copy of it first)",
        )
    fix = f"{_away(file)} makes another" if file else "install the version that its server has"
    return Trouble(f"{file or place}: was written by a newer MLflow than {mlflow.__version__}", fix)


def _away(file):
    old, new = shlex.quote(str(file)), shlex.quote(f"{file}.old")
    return f"mv {old} {new} && python -m ferlab sync"


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
