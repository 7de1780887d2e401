"""SIGKILL at any moment of a training, then the same command: the same bytes, one finished run."""

import functools
import random
import shutil
import statistics
import time

import pytest

from ferlab import files
from ferlab.tracking import provenance
from tests import children
from tests.repository import wait_for

pytestmark = pytest.mark.slow
EPOCHS = 30
# What each kill waits for before its random delay: the start, the next finished epoch, or a
# half-written file.
MOMENTS = (
    "start",
    "epoch",
    "checkpoint.npz",
    "epoch",
    "epoch",
    "start",
    "epoch",
    "checkpoint.npz",
    "epoch",
    "model.keras",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return children.workspace(tmp_path_factory.mktemp("kills") / "prepared", epochs=EPOCHS)


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """The same training, never killed."""
    folder = tmp_path_factory.mktemp("whole") / "repository"
    shutil.copytree(prepared, folder)
    children.run(folder, "train")
    return folder


def epochs_done(folder):
    notes = list((folder / ".ferlab/resume").glob("*/live.json"))
    return files.read_json(notes[0])["epoch"] if notes else 0


def test_ten_kills_at_random_moments_lose_nothing(prepared, whole, tmp_path):
    folder = tmp_path / "repository"
    shutil.copytree(prepared, folder)
    seconds = files.read_json(next((whole / provenance.RUNS).iterdir()))["epochs"]
    rng = random.Random(5)
    for moment in MOMENTS:
        before = epochs_done(folder)
        if moment.endswith((".npz", ".keras")):
            times = rng.randint(1, 2) if moment.endswith(".npz") else 1
            die = functools.partial(children.die_writing, moment, times)
            children.Child(folder, "train", die).died()
            assert list(folder.rglob("*.part*")), "the kill should have left half a file"
            continue
        child = children.Child(folder, "train")
        if moment == "epoch":
            wait_for(lambda before=before: epochs_done(folder) > before)
        longest = seconds[0] if moment == "start" else 2 * statistics.median(seconds)
        time.sleep(rng.uniform(0, longest))
        child.kill()
    assert not (folder / "models/model.keras").exists()
    assert "resuming an interrupted training" in children.run(folder, "train")

    for file in ("models/model.keras", "models/history.csv"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file
    assert not list(folder.rglob("*.part*"))
    assert not list((folder / ".ferlab/resume").glob("*/*"))
    record = files.read_json(
        folder / provenance.RUNS / f"{files.md5(folder / 'models/model.keras')}.json"
    )
    assert len(record["epochs"]) == EPOCHS
    children.run(folder, "predict")
    children.run(folder, "evaluate")
    (run,) = children.runs(f"sqlite:///{folder}/mlflow.db")
    assert run.info.status == "FINISHED"
    assert run.steps == list(range(1, EPOCHS + 1))


def test_another_seed_starts_anew_and_the_killed_run_is_marked(prepared, whole, tmp_path):
    folder = tmp_path / "repository"
    shutil.copytree(prepared, folder)
    child = children.Child(folder, "train")
    store = f"sqlite:///{folder}/mlflow.db"
    wait_for(
        lambda: (
            epochs_done(folder)
            and (folder / "mlflow.db").exists()
            and any(run.steps for run in children.runs(store))
        )
    )
    child.kill()
    assert [run.info.status for run in children.runs(store)] == ["RUNNING"]
    children.configure(folder, seed=1, epochs=1)
    assert "resuming" not in children.run(folder, "train")
    children.run(folder, "predict")
    children.run(folder, "evaluate")
    # the training marks it too, but waits for MLflow a few seconds only
    children.run(folder, "ferlab sync")
    assert sorted(run.info.status for run in children.runs(store)) == ["FINISHED", "KILLED"]
    children.configure(folder, seed=0, epochs=EPOCHS)
    assert "resuming" in children.run(folder, "train")
    resumed, never_killed = (top / "models/model.keras" for top in (folder, whole))
    assert resumed.read_bytes() == never_killed.read_bytes()
