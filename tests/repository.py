"""A temporary Git repository with this pipeline on a tiny dataset, and a way to run commands in it as a user does."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.builders import images, tiny, zipped

TOP = Path(__file__).parent.parent
SMALL = {
    "  epochs: 20": "  epochs: 2",
    "  batch_size: 128": "  batch_size: 8",
    "  dataset: sample": "  dataset: data.zip",
}


def wait_for(condition, seconds=300):
    """The first true value of `condition()`, asked again and again; patient, since a busy machine may be ten times slower."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def answers(port):
    """True where something listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Repository:
    def __init__(self, path, changes=SMALL):
        """Copies what Git tracks here (as it is in the working tree), changes params.yaml, commits."""
        self.path = path
        files = subprocess.run(
            ["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for name in files:
            if (TOP / name).is_file() and not name.startswith(("tests/", "recipes/results/")):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, path / name)
        (path / "dvc.lock").unlink(missing_ok=True)
        text = (path / "params.yaml").read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (path / "params.yaml").write_text(text)
        zipped(path / "data.zip", images(tiny(train=6)))
        (path / ".gitignore").open("a").write("data.zip\n")
        home = path.parent / "home"
        home.mkdir(exist_ok=True)
        clean = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("GIT_", "DVC_", "MLFLOW_", "PYTHON"))
        }
        self.environment = clean | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
            "DVC_NO_ANALYTICS": "1",
        }
        self("git init -q -b main")
        self("git add -A")
        self("git commit -qm start")

    def run(self, command, **more):
        return subprocess.run(
            command,
            shell=True,
            cwd=self.path,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def __call__(self, command, **more):
        """Standard output and error of a command that must succeed."""
        done = self.run(command, **more)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def stages_run(self, output):
        return [
            line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")
        ]

    def client(self):
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{self.path / 'mlflow.db'}")
        return mlflow.MlflowClient()

    def runs(self):
        """Every MLflow run of the repository's store, whatever its experiment."""
        client = self.client()
        return client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()]
        )
