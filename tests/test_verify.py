"""`make verify` runs everything twice from scratch, and tells equal from different."""

import pytest

from ferlab import verify
from ferlab.files import UserError
from tests.builders import images, tiny, zipped
from tests.conftest import REPOSITORY


def test_different_bits_are_named():
    said = []
    verify.compare({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, said.append)
    assert said[-1].startswith("all equal: 2 outputs")
    with pytest.raises(UserError, match="^not the same bits: b, c$"):
        verify.compare({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}, said.append)


@pytest.mark.slow
def test_two_runs_from_scratch_have_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    said = []
    data = zipped(tmp_path / "data.zip", images(tiny(train=6)))
    verify.verify([f"download.dataset={data}", "train.epochs=2", "train.batch_size=8"], said.append)
    assert said[-1].startswith("all equal: ")
    assert {"models/model.keras", "models/history.csv", "data/raw", "reports/metrics.json", "reports/report.html"} <= {
        line.split()[0] for line in said if line.startswith("  ")}
