"""What all tests share: parameters, a finished repository, no way to the user's own stores."""

import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME"):
    os.environ.pop(name, None)
END = float(os.environ.get("FERLAB_TESTS_END", "inf"))  # seconds since 1970


def pytest_runtest_setup(item):
    """Where the time for all tests is limited (.ci/run), a slow machine names what it left out."""
    if time.time() > END and item.get_closest_marker("slow"):
        pytest.skip("not run: the time given to the tests is over (FERLAB_TESTS_END)")


@pytest.fixture
def settings():
    """The committed parameters, changed and checked: `settings(**{"train.epochs": 2})`."""
    from ruamel.yaml import YAML

    from ferlab import params

    def change(**changes):
        values = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
        for key, value in changes.items():
            section, name = key.split(".")
            values[section][name] = value
        return params.parse(values)

    return change


@pytest.fixture
def drawn(monkeypatch):
    """The figures that Matplotlib saved in this test, to see what they show."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        figures.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a repository with a committed result; made once, and not to be changed.

    Beside it: first.txt, what `dvc repro` printed, and a record of each stage (tests/recorder).
    With pytest-xdist, the first process that needs it makes it for all.
    """
    from tests.repository import Repository

    top = tmp_path_factory.getbasetemp()
    top = (top.parent if "PYTEST_XDIST_WORKER" in os.environ else top) / "finished"
    top.mkdir(exist_ok=True)
    with open(top / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (top / "first.txt").exists():
            shutil.rmtree(top / "repository", ignore_errors=True)  # of an attempt that failed
            made = Repository(top / "repository")
            recorder = {"PYTHONPATH": str(REPOSITORY / "tests/recorder"), "RECORDS": str(top)}
            printed = made("dvc repro", **recorder)
            made("git add -A && git commit -qm 'first result'")
            (top / "first.txt").write_text(printed)
    return top / "repository"
