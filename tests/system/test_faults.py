"""A full disk, a read-only folder, a tracking store that fails: results are whole all the same."""

import contextlib
import errno
import functools
import importlib
import io
import os
import resource
import shutil
import socket
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import stages
from ferlab import files
from ferlab.training import loop
from tests import children
from tests.repository import TOP, wait_for

pytestmark = pytest.mark.slow
EPOCHS = 2
STAGES = ("download", "eda", "balance", "train", "predict", "evaluate", "explain")
RESULTS = (
    "models/model.keras",
    "models/history.csv",
    "reports/metrics.json",
    "reports/details.json",
    "reports/report.html",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(A folder with a result made without any fault, seconds its training and evaluation took)."""
    folder = children.workspace(tmp_path_factory.mktemp("faults") / "finished", epochs=EPOCHS)
    seconds = [children.Child(folder, name).end()[2] for name in ("train", "predict", "evaluate")]
    children.run(folder, "explain")
    children.pin(folder)
    return folder, sum(seconds)


watchers = []


def hook(event, arguments):
    if not watchers or event not in ("open", "os.mkdir", "os.rename"):
        return
    path = os.fspath(arguments[0]) if isinstance(arguments[0], (str, os.PathLike)) else ""
    writing = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if path and writing and Path(path).absolute().is_relative_to(Path.cwd()):
        watchers[-1](event, path)


sys.addaudithook(hook)


@contextlib.contextmanager
def full_from(number):
    """From the `number`-th opening of a file for writing on, no file can grow.

    Yields the list of the paths that were opened.
    """
    opened, (soft, hard) = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def watch(event, path):
        if event == "open":
            opened.append(path)
            if len(opened) == number:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))

    watchers.append(watch)
    try:
        yield opened
    finally:
        watchers.pop()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only():
    def watch(event, path):
        raise OSError(errno.EROFS, "Read-only file system", path)

    watchers.append(watch)
    try:
        yield
    finally:
        watchers.pop()


def call(name, monkeypatch):
    """The exit message of a stage run in this process, None where it succeeds.

    Nothing is printed, and MLflow is left out.
    """

    @contextlib.contextmanager
    def none():
        raise RuntimeError
        yield

    module = importlib.import_module(f"stages.{name}")
    monkeypatch.setattr("ferlab.tracking.store.store", none)
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            stages.run(module.main)
        except SystemExit as end:
            return end.code


def content(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(".lock") and ".ferlab" not in file.parts
    }


@pytest.fixture
def old(finished, tmp_path, monkeypatch, request):
    """A copy of the finished folder in which the outputs of one stage hold something older."""
    folder, name = tmp_path / "repository", request.node.callspec.params["name"]
    shutil.copytree(
        finished[0],
        folder,
        ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts", ".ferlab", "dvc.lock"),
    )
    declared = YAML(typ="safe").load((TOP / "dvc.yaml").read_text())["stages"][name]
    for out in (
        *declared["outs"],
        *(name for metric in declared.get("metrics", []) for name in metric),
    ):
        if (folder / out).is_dir():
            shutil.rmtree(folder / out)
            (folder / out).mkdir()
            (folder / out / "old.txt").write_text("old")
        else:
            (folder / out).write_text("old")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def trained_once(monkeypatch):
    """The first training is real; the next ones write what it gave, since a start takes seconds."""
    real, kept = loop.fit, []

    def fit(dataset, settings, checkpoint, callbacks):
        if not kept:
            kept.append(real(dataset, settings))
        model, history, seconds = kept[0]
        for row, duration in zip(history.to_dict("records"), seconds, strict=True):
            with files.replacing(checkpoint) as part:
                part.write_bytes(b"state")
            callbacks.on_epoch(row, duration)
        return model, history, seconds

    monkeypatch.setattr(loop, "fit", fit)


def places(opened):
    """At which openings (from 1) the disk is to be full.

    All but those between the first and the last file of a folder that is replaced as a whole.
    """
    folders = [None, *(Path(path).parent for path in opened), None]
    return [
        number
        for number, folder in enumerate(folders[1:-1], 1)
        if not (folder.name.endswith(".part") and {*folders[number - 1 : number + 2]} == {folder})
    ]


def test_the_places_of_a_full_disk():
    inside = [f"x/.figures.1.part/{name}.png" for name in "abcd"]
    assert places(["x/.a.1.part", "x/.b.1.part", "x/.c.1.part"]) == [1, 2, 3]
    assert places(["x/.a.1.part", *inside, "x/.b.1.part"]) == [1, 2, 5, 6]


@pytest.mark.parametrize("name", STAGES)
def test_a_disk_that_is_full_from_any_write_on_spoils_nothing(
    name, old, finished, trained_once, tmp_path, monkeypatch
):
    def written(content):
        """What must be whole: data/source.json bears a date."""
        return {path: held for path, held in content.items() if path != "data/source.json"}

    before, whole = content(old), content(finished[0])
    shutil.copytree(old, tmp_path / "kept")
    with full_from(0) as opened:
        assert call(name, monkeypatch) is None
    assert len(opened) >= 2
    for path, held in written(content(old)).items():
        assert held == whole[path], path
    for number in places(opened):
        shutil.rmtree(old)
        shutil.copytree(tmp_path / "kept", old)
        os.chdir(old)
        with full_from(number) as opened:
            message = call(name, monkeypatch)
        assert len(opened) >= number, "the disk was never full"
        if message is not None:
            assert message.startswith("error: ") and message.isprintable(), (opened, message)
        left = content(old)
        assert not [path for path in left if ".part" in path], (opened, left.keys())
        for path, held in written(left).items():
            # where it succeeds, what failed was no output: a note, or what only MLflow shows
            allowed = (whole.get(path), before.get(path)) if message else (whole[path],)
            assert held in allowed, (opened, path)


@pytest.mark.parametrize("name", STAGES)
def test_a_read_only_folder_is_one_line_and_changes_nothing(name, old, monkeypatch):
    before = content(old)
    with read_only():
        message = call(name, monkeypatch)
    assert message.startswith("error: ")
    assert message.endswith("read-only file system; make room or allow writing, then run again")
    assert content(old) == before


class Deleted:
    def __init__(self, folder):
        for file in folder.glob("mlflow.db*"):
            file.unlink()

    def end(self):
        pass


class Locked:
    """Another program holds the database, as a backup or a browser of tables may."""

    def __init__(self, folder):
        self.connection = sqlite3.connect(folder / "mlflow.db", timeout=300, isolation_level=None)
        self.connection.execute("BEGIN EXCLUSIVE")

    def end(self):
        self.connection.close()


class Corrupt:
    def __init__(self, folder):
        self.path = folder / "mlflow.db"
        self.path.write_bytes(b"no database" * 1000)

    def end(self):
        self.path.unlink()


def untrained(finished, folder):
    """Copy the finished folder, without what training, evaluation and MLflow made."""
    made = (
        "mlflow.db*",
        "mlartifacts",
        ".ferlab",
        "models",
        "dvc.lock",
        *(Path(name).name for name in RESULTS),
    )
    shutil.copytree(finished[0], folder, ignore=shutil.ignore_patterns(*made))


def settle(folder, finished, release, child, **environment):
    """Let the held training go on, evaluate, compare with the result made without a fault.

    Returns what the evaluation printed; `folder` is then as after a `dvc repro`.
    """
    release.touch()
    code, output, trained = child.end()
    assert code == 0, output
    children.run(folder, "predict")
    code, output, evaluated = children.Child(folder, "evaluate", **environment).end()
    assert code == 0, output
    for name in RESULTS:
        assert (folder / name).read_bytes() == (finished[0] / name).read_bytes(), name
    assert trained + evaluated < 3 * finished[1] + 60, "tracking may cost seconds, not minutes"
    children.pin(folder)
    return output


def arrived(store):
    runs = [run for run in children.runs(store) if run.data.tags.get("ferlab.complete") == "true"]
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert runs[0].steps == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("fault", [Deleted, Locked, Corrupt])
def test_a_database_that_fails_in_mid_run_costs_no_result_and_sync_delivers(
    fault, finished, tmp_path
):
    folder, release = tmp_path / "repository", tmp_path / "release"
    store = f"sqlite:///{folder}/mlflow.db"
    untrained(finished, folder)
    child = children.Child(
        folder, "train", functools.partial(children.wait_after_epoch, 1, release)
    )
    wait_for(
        lambda: (folder / "mlflow.db").exists() and any(run.steps for run in children.runs(store))
    )
    failing = fault(folder)
    output = settle(folder, finished, release, child)
    failing.end()
    assert ("warning: not shown in MLflow" in output) == (fault is not Deleted)
    children.run(folder, "ferlab sync")
    # another spelling: MLflow in this process still holds the file that was deleted
    arrived(f"sqlite:///{folder}/./mlflow.db")


def test_a_kill_while_the_database_is_set_up_leaves_no_half_of_it(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    child = children.Child(folder, "ferlab sync")
    wait_for(lambda: any(file.stat().st_size for file in folder.glob(".mlflow.db.*.part")))
    child.kill()
    assert not (folder / "mlflow.db").exists()
    assert "0 results" in children.run(folder, "ferlab sync")
    assert not list(folder.glob(".mlflow.db*"))


def wrong_clock():
    """The year 1970, as after a start without battery and network."""
    real = time.localtime
    time.localtime = lambda *_: real(0)


def test_a_training_under_a_wrong_clock_is_one_line_and_leaves_nothing(finished, tmp_path):
    folder = tmp_path / "repository"
    untrained(finished, folder)
    before = sorted(folder.rglob("*"))
    code, output, _ = children.Child(folder, "train", wrong_clock).end()
    assert (code, output) == (1, "error: this machine's clock says 1970-01-01: set it\n")
    assert sorted(folder.rglob("*")) == before


def test_a_server_that_accepts_and_never_answers_costs_seconds(finished, tmp_path):
    folder, release = tmp_path / "repository", tmp_path / "release"
    untrained(finished, folder)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        child = children.Child(folder, "train", MLFLOW_TRACKING_URI=address)
        output = settle(folder, finished, release, child, MLFLOW_TRACKING_URI=address)
    assert "warning: not shown in MLflow" in output
    children.run(folder, "ferlab sync")
    arrived(f"sqlite:///{folder}/mlflow.db")
