"""dvc.lock and dvc.yaml are read by one module, and what is damaged in them is one line."""

import pytest

from ferlab import dvc_files
from ferlab.files import UserError

LOCK = """
stages:
  train:
    params:
      params.yaml: {train: {seed: 0}}
    outs:
      - {path: models/model.keras, md5: aa}
  evaluate:
    params:
      params.yaml: {train.seed: 0, evaluate: {flip: true}}
    outs:
      - {path: reports/metrics.json, md5: bb}
"""
PIPELINE = """
stages:
  evaluate:
    cmd: x
    outs: [reports/details.json]
    metrics:
      - reports/metrics.json: {cache: false}
"""


def test_outputs_and_parameters_of_all_stages():
    stages = dvc_files.stages(LOCK)
    assert dvc_files.outputs(stages) == {"models/model.keras": "aa", "reports/metrics.json": "bb"}
    assert dvc_files.parameters(stages) == {
        "train": {"seed": 0},
        "train.seed": 0,
        "evaluate": {"flip": True},
    }
    declared = dvc_files.outputs(dvc_files.stages(PIPELINE, "dvc.yaml"))
    assert declared == {"reports/details.json": "", "reports/metrics.json": ""}


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", "", "[]", "stages: 3", "stages: {a: 1}", "a: ["])
def test_a_damaged_lock_is_one_line_that_names_the_file(text):
    with pytest.raises(UserError, match="dvc.lock: .*git checkout dvc.lock") as caught:
        dvc_files.stages(text)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_in_the_cache_is_named_with_its_fix(monkeypatch, tmp_path):
    class Empty:
        def __init__(self, *_, **__):
            pass

        def isdir(self, path):
            raise FileNotFoundError(path)

    monkeypatch.setattr("dvc.api.DVCFileSystem", Empty)
    wanted = {"models/model.keras": tmp_path / "model.keras"}
    with pytest.raises(
        UserError, match="^mine: models/model.keras is not in DVC's cache .*mine &&"
    ):
        dvc_files.fetch("mine", wanted)
