"""Trainings that are killed, interrupted, forced or not recorded: nothing is lost or mixed."""

import json
import os
import signal
import subprocess

import psutil
import pytest

from tests import children
from tests.repository import Repository, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(finished, tmp_path):
    return Repository.copy(finished, tmp_path / "repository")


def epochs_done(repository):
    """Finished epochs of the unfinished training; 0 where there is none."""
    notes = list((repository.path / ".ferlab/resume").glob("*/live.json"))
    return json.loads(notes[0].read_text())["epoch"] if notes else 0


def test_a_training_killed_at_any_moment_ends_in_the_same_bytes_and_one_run(finished, tmp_path):
    whole, killed = (
        Repository.copy(finished, tmp_path / name / "repository") for name in ("whole", "killed")
    )
    for repository in (whole, killed):
        repository.change({"  epochs: 2": "  epochs: 10"})  # enough to be found at the fourth
    whole("dvc repro evaluate")
    environment = killed.environment | {"SHELL": "/bin/sh"}  # dash, which waits for a stage
    for epoch, victim in ((1, "all"), (3, "dvc"), (4, "all")):
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=killed.path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda epoch=epoch: epochs_done(killed) >= epoch)
        if victim == "dvc":  # its orphan notices, and stops by itself
            orphan = psutil.Process(process.pid).children(recursive=True)[-1]
            process.kill()
            orphan.wait(timeout=300)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "resuming an interrupted training" in killed("dvc repro evaluate")
    for file in (
        "models/model.keras",
        "models/history.csv",
        "reports/metrics.json",
        "reports/report.html",
        "dvc.lock",
    ):
        assert (killed.path / file).read_bytes() == (whole.path / file).read_bytes(), file
    (run,) = killed.runs()
    assert run.info.status == "FINISHED"
    assert killed.steps(run) == list(range(1, 11))


def test_a_finished_training_that_dvc_did_not_record_and_a_forced_one_share_the_one_run(repository):
    repository.change({"  seed: 0\n\nevaluate": "  seed: 1\n\nevaluate"})
    # as where dvc dies between the end of training and its own note of it
    children.run(repository.path, "train")
    assert [run.info.run_name for run in repository.runs()] == ["training"]
    repository("dvc repro evaluate")
    assert list(repository.complete_runs()) == [repository.runs()[0].info.run_name]
    repository("dvc repro --force --single-item train evaluate")
    repository("python -m ferlab sync")
    (run,) = repository.complete_runs().values()
    assert len(repository.runs()) == 1
    assert repository.steps(run) == [1, 2]
    repository.change({"  mistakes: 24": "  mistakes: 5"})
    repository("dvc repro --force --single-item train evaluate")  # other parameters: another result
    assert len(repository.complete_runs()) == len(repository.runs()) == 2


def test_two_trainings_on_one_output_do_not_mix_and_an_interrupt_says_how_to_go_on(repository):
    repository.change({"  epochs: 2": "  epochs: 4000"})
    first = subprocess.Popen(
        ["python", "-m", "stages.train"],
        cwd=repository.path,
        env=repository.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # as in a terminal
    try:
        wait_for(lambda: epochs_done(repository))
        code, output, _ = children.Child(repository.path, "train").end()
        assert code == 1
        assert (
            output.strip()
            == "error: models/model.keras: another training is writing here; wait for it or stop it"
        )
        first.send_signal(signal.SIGINT)
        assert "the same command goes on from there" in first.communicate(timeout=300)[1]
        assert first.returncode == 1
    finally:
        first.kill()
