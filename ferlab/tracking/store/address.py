"""Where MLflow keeps the runs, as MLFLOW_TRACKING_URI says, and what cannot be such a place."""

import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ferlab import files, secrets

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
ARTIFACTS = "mlartifacts"  # the folder of the runs' files, beside the database


class Trouble(files.UserError):
    """The store cannot be used. what, fix: what is wrong, and the command that helps."""

    def __init__(self, what, fix):
        self.what, self.fix = secrets.masked(what), secrets.masked(fix)
        super().__init__(f"{self.what}; {self.fix}")


def address():
    """Where MLflow keeps the runs: MLFLOW_TRACKING_URI, else mlflow.db beside the main repository.

    A relative database lies there too, not in a temporary workspace. A server's user and password
    go to MLflow by its own variables, since it prints addresses. Raises Trouble for what cannot be
    such a store.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme = given.partition("://")[0].partition("+")[0] if "://" in given else ""
    if scheme == "sqlite":
        return f"sqlite:///{files.root() / given.partition('://')[2].removeprefix('/')}"
    if scheme in ("http", "https"):
        return _without_password(given)
    if scheme in ("postgresql", "mysql", "mssql"):
        _check_driver(given)
        return given
    if not scheme and given.partition(":")[0] not in ("databricks", "uc") or scheme == "file":
        folder = given.removeprefix("file://").removeprefix("file:")
        raise Trouble(
            f"MLFLOW_TRACKING_URI={given}: MLflow keeps no runs in folders any more",
            f"unset MLFLOW_TRACKING_URI (to keep old runs, while there is no mlflow.db: "
            f"mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db)",
        )
    raise Trouble(
        f"MLFLOW_TRACKING_URI={given}: is no store of ferlab's (sqlite, http, https, postgresql)",
        "unset MLFLOW_TRACKING_URI: runs then stand in mlflow.db",
    )


def answers(place, seconds=5):
    """True where something listens at an address with a host, or where it names none."""
    try:
        parts = urlsplit(place)
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
        if parts.hostname and port:
            socket.create_connection((parts.hostname, port), timeout=seconds).close()
        return True
    except (OSError, ValueError):  # a port that is no number
        return False


def database(place):
    """The Path of the SQLite file at an `address`, None of another store."""
    return Path(place.removeprefix("sqlite:///")) if place.startswith("sqlite:") else None


def artifact_root():
    """Where a new experiment's files go, as a URI: beside the database; None if a server says."""
    place = address()
    if place.startswith("http"):
        return None
    file = database(place)
    return ((file.resolve().parent if file else files.root()) / ARTIFACTS).as_uri()


def _without_password(given):
    parts = secrets.user_and_password(given)
    if not parts:
        return given
    before, user, password, host = parts
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(user))
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(password))
    return before + host


def _check_driver(given):
    """Trouble where the database's package is not installed."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(given).get_dialect().import_dbapi()
    except ImportError as error:
        fix = "unset MLFLOW_TRACKING_URI, or install a driver for it"
        if given.startswith("postgresql"):
            fix = (
                "let it begin with postgresql+psycopg2:// and "
                "pip install --require-hashes -r requirements-scale.txt"
            )
        raise Trouble(
            f"MLFLOW_TRACKING_URI={given}: the package {error.name} is not installed", fix
        ) from None
    except (SQLAlchemyError, ValueError) as error:
        raise Trouble(
            f"MLFLOW_TRACKING_URI={given}: {secrets.one_line(error)}",
            "export it as postgresql+psycopg2://<user>:<password>@<host>/<database>",
        ) from None
