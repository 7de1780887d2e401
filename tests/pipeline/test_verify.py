"""`make verify` runs everything four times from scratch, and tells equal from different."""

import subprocess

import pytest

from ferlab.files import UserError
from ferlab.workspace import verify
from tests.builders import images, tiny, zipped
from tests.conftest import REPOSITORY


def test_different_bits_are_named():
    said = []
    verify.compare({"once": {"a": "1", "b": "2"}, "again": {"a": "1", "b": "2"}}, said.append)
    assert said[-1] == "all equal: 2 outputs of 2 runs from scratch"
    with pytest.raises(UserError, match="^not the same bits: b, c$"):
        verify.compare(
            {"once": {"a": "1", "b": "2"}, "again": {"a": "1", "b": "3", "c": "4"}}, said.append
        )


def test_a_queue_whose_worker_died_is_not_waited_for(tmp_path, monkeypatch):
    def call(command, **_):
        said = "Running" if command[-1] == "status" else ""
        return subprocess.CompletedProcess(command, 0, stdout=said, stderr="")

    monkeypatch.setattr(verify, "clone", lambda folder: None)
    monkeypatch.setattr(verify.subprocess, "run", call)
    monkeypatch.setattr(verify.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="queue: its worker has died"):
        verify.run(tmp_path, "queue", [])


@pytest.mark.slow
def test_four_runs_from_scratch_have_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    said = []
    data = zipped(tmp_path / "data.zip", images(tiny(train=6)))
    verify.verify([f"download.dataset={data}", "train.epochs=2", "train.batch_size=8"], said.append)
    assert said[-1].startswith("all equal: ") and said[-1].endswith("of 4 runs from scratch")
    assert {
        "models/model.keras",
        "models/history.csv",
        "data/raw",
        "reports/metrics.json",
        "reports/report.html",
    } <= {line.split()[0] for line in said if line.startswith("  ")}
