"""A temporary Git repository with this pipeline on a tiny dataset, and commands run in it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

from tests.builders import images, tiny, zipped

TOP = Path(__file__).parent.parent
SMALL = {
    "  epochs: 12": "  epochs: 2",
    "  batch_size: 128": "  batch_size: 8",
    "  dataset: sample": "  dataset: data.zip",
}


def wait_for(condition, seconds=300, pause=0.05):
    """The first true value of `condition()`, asked again after each pause (seconds).

    The default is patient, since a busy machine may be ten times slower.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause)
    return value


def answers(port):
    """True where something listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment_of(home):
    """The variables of a user with this home, whose `python` and `dvc` are those of the tests."""
    home.mkdir(parents=True, exist_ok=True)
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "DVC_", "MLFLOW_", "PYTHON", "FERLAB_"))
    }
    return clean | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.org",
        "DVC_NO_ANALYTICS": "1",
    }


class Repository:
    """A repository in which commands are run: `repository("dvc repro")` gives what it printed."""

    def __init__(self, path, changes=SMALL):
        """Copies what Git tracks here, as in the working tree; changes params.yaml; commits."""
        self._open(path)
        tracked = subprocess.run(
            ["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for name in tracked:
            if (TOP / name).is_file() and not name.startswith(("tests/", "recipes/results/")):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, path / name)
        (path / "dvc.lock").unlink(missing_ok=True)
        self.change(changes)
        zipped(path / "data.zip", images(tiny(train=6)))
        (path / ".gitignore").open("a").write("data.zip\n")
        self("git init -q -b main && git add -A && git commit -qm start")

    @classmethod
    def copy(cls, finished, path):
        """A copy of the repository in the folder `finished`.

        Without the locks of DVC, Git and MLflow, which may be held just now, and without MLflow's
        store, which names the folder that it was made in.
        """
        left_out = shutil.ignore_patterns("tmp", "index.lock", "mlflow.*", "mlartifacts")
        shutil.copytree(finished, path, symlinks=True, ignore=left_out)
        return cls.existing(path)

    @classmethod
    def existing(cls, path):
        """The repository that is in a folder already."""
        repository = cls.__new__(cls)
        repository._open(path)
        return repository

    def _open(self, path):
        self.path, self.environment = path, environment_of(path.parent / "home")

    def change(self, changes, file="params.yaml"):
        """Replace texts that must stand in a file; returns what the file held before."""
        before = text = (self.path / file).read_text()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        (self.path / file).write_text(text)
        return before

    def run(self, command, **variables):
        """The finished process of a shell command, whatever its exit code."""
        return subprocess.run(
            command,
            shell=True,
            cwd=self.path,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def __call__(self, command, **variables):
        """Standard output and error of a command that must succeed."""
        done = self.run(command, **variables)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def stages_run(self, output):
        """The stages that ran, by what `dvc repro` printed."""
        return [
            line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")
        ]

    def client(self):
        """MLflow's client of the repository's own store."""
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{self.path / 'mlflow.db'}")
        return mlflow.MlflowClient()

    def runs(self):
        """Every MLflow run of the repository's store, whatever its experiment."""
        client = self.client()
        return client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()]
        )

    def complete_runs(self):
        """{name: run} of the runs; asserts that all are complete, and none in Default."""
        client, runs = self.client(), self.runs()
        for run in runs:
            assert run.info.status == "FINISHED"
            assert run.data.tags.get("ferlab.complete") == "true"
            assert os.path.isdir(urlparse(run.info.artifact_uri).path)
            assert client.list_artifacts(run.info.run_id, "figures")
        assert not client.search_runs(["0"])
        return {run.info.run_name: run for run in runs}

    def steps(self, run):
        """The epochs whose metrics are in an MLflow run, in order."""
        points = self.client().get_metric_history(run.info.run_id, "epoch/selection_accuracy")
        return sorted(point.step for point in points)
