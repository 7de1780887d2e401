"""dvc.lock and dvc.yaml are read by one module, and what is damaged in them is one line."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from ferlab import dvc_files
from ferlab.files import UserError
from tests.repository import TOP

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

        def read_text(self, path, **_):
            return LOCK

        def get(self, *_, **__):
            pytest.fail("what cannot be told from a folder was fetched")

        def isdir(self, path):
            raise FileNotFoundError("no remote has it")

    monkeypatch.setattr("dvc.api.DVCFileSystem", Empty)
    wanted = {"models/model.keras": tmp_path / "model.keras"}
    said = r"^mine: models/model.keras is not in DVC's cache \(.*no remote has it.*\); .*mine &&"
    with pytest.raises(UserError, match=said):
        dvc_files.fetch("mine", wanted)


LISTS = {
    "a folder above": ([{"md5": "b" * 32, "relpath": "../../../x"}], "leads outside it"),
    "a way back in the middle": ([{"md5": "b" * 32, "relpath": "a/../../x"}], "leads outside it"),
    "from the root": ([{"md5": "b" * 32, "relpath": "/etc/x"}], "leads outside it"),
    "Windows' way": ([{"md5": "b" * 32, "relpath": "..\\x"}], "leads outside it"),
    "a drive": ([{"md5": "b" * 32, "relpath": "C:x"}], "leads outside it"),
    "the folder itself": ([{"md5": "b" * 32, "relpath": "."}], "leads outside it"),
    "an object outside the cache": ([{"md5": "../../x", "relpath": "x"}], "names no md5"),
    "no list": ({"x": 1}, "is damaged"),
    "no name": ([{"md5": "b" * 32}], "is damaged"),
}


def listed(cache, content):
    """Put a folder's list into a cache, under the name that its content has."""
    digest = hashlib.md5(content).hexdigest()
    path = cache / "files/md5" / digest[:2] / f"{digest[2:]}.dir"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of a checkout that is the working directory, with one honest list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    honest = [{"md5": "a" * 32, "relpath": "figures/one..two.png"}]
    listed(tmp_path / ".dvc/cache", json.dumps(honest).encode())
    return tmp_path / ".dvc/cache"


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_leads_out_of_its_folder_is_found_before_it_is_followed(case, cache):
    content, message = LISTS[case]
    assert list(dvc_files.stray_lists()) == []
    path = listed(cache, json.dumps(content).encode())
    ((what, fix),) = dvc_files.stray_lists()
    assert what.startswith(str(path)) and message in what
    assert fix.startswith(f"rm {path}, and pull only from remotes that you trust")


def test_a_list_that_is_not_the_one_of_its_name_is_found(cache):
    (path,) = cache.rglob("*.dir")
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    assert "was changed" in next(dvc_files.stray_lists())[0]


def test_a_hostile_remote_is_found_and_a_model_it_changed_is_not_opened(tmp_path, monkeypatch):
    """As `make pull` does: fetched, found, and not checked out."""
    from dvc.repo import Repo

    mine, remote = tmp_path / "mine", tmp_path / "mine/.dvc/cache/files/md5"
    mine.mkdir()
    monkeypatch.chdir(mine)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    (mine / "data").mkdir()
    (mine / "data/one").write_text("1")
    (mine / "model.keras").write_text("honest")
    with Repo.init(no_scm=True) as repository:
        outs = {}
        for name in ("data", "model.keras"):
            (stage,) = repository.add(name)
            outs[name] = stage.outs[0].hash_info.value
    stage = {
        "cmd": "make it",
        "outs": [{"path": name, "md5": md5, "hash": "md5"} for name, md5 in outs.items()],
    }
    (mine / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"make": stage}}))
    for path in mine.glob("?*.dvc"):
        path.unlink()
    pipeline = {"stages": {"make": {"cmd": "make it", "outs": list(outs)}}}
    (mine / "dvc.yaml").write_text(json.dumps(pipeline))
    for name, target in (("data", tmp_path / "data"), ("model.keras", tmp_path / "model")):
        dvc_files.fetch("mine", {name: target})
    assert (tmp_path / "model").read_text() == "honest"

    changed = remote / outs["model.keras"][:2] / outs["model.keras"][2:]
    changed.chmod(0o644)
    changed.write_text("hacked")
    (mine / "model.keras").unlink()
    with pytest.raises(UserError, match="mine: model.keras has the md5 .* it was changed in DVC's"):
        dvc_files.fetch("mine", {"model.keras": tmp_path / "opened"})
    assert not (tmp_path / "opened").exists()
    path = remote / outs["data"][:2] / outs["data"][2:]
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"one"', '"../../outside"'))
    with pytest.raises(UserError, match="DVC's list of data was changed"):
        dvc_files.fetch("mine", {"data": tmp_path / "x/data"})
    assert not list(tmp_path.rglob("outside"))
    checked = [sys.executable, "-m", "ferlab.dvc_files"]
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    done = subprocess.run(checked, env=environment, capture_output=True, text=True)
    assert done.returncode and f"error: {path}" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("one", "../../outside"), "data is not in DVC's cache"),  # DVC fails before it writes
        (("one", "another"), "data has the md5 .*.dir, dvc.lock says .*.dir: it was changed"),
    ],
)
def test_a_folder_whose_list_comes_from_a_remote_is_looked_at_as_well(
    change, said, tmp_path, monkeypatch
):
    from dvc.repo import Repo

    mine, remote = tmp_path / "mine", tmp_path / "remote"
    (mine / "data").mkdir(parents=True)
    (mine / "data/one").write_text("1")
    (mine / "data/deep").mkdir()
    (mine / "data/deep/two").write_text("2")
    monkeypatch.chdir(mine)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    with Repo.init(no_scm=True) as repository:
        (stage,) = repository.add("data")
        md5 = stage.outs[0].hash_info.value
    (mine / "data.dvc").unlink()
    out = {"path": "data", "md5": md5, "hash": "md5"}
    lock = {"schema": "2.0", "stages": {"make": {"cmd": "make it", "outs": [out]}}}
    (mine / "dvc.lock").write_text(json.dumps(lock))
    pipeline = {"stages": {"make": {"cmd": "make it", "outs": ["data"]}}}
    (mine / "dvc.yaml").write_text(json.dumps(pipeline))
    shutil.copytree(mine / ".dvc/cache", remote)
    (mine / ".dvc/config").write_text(f"[core]\nremote = r\n['remote \"r\"']\nurl = {remote}\n")
    shutil.rmtree(mine / ".dvc/cache")
    dvc_files.fetch("mine", {"data": tmp_path / "x/honest"})
    assert (tmp_path / "x/honest/deep/two").read_text() == "2"
    for kept in ("cache", "tmp"):
        shutil.rmtree(mine / ".dvc" / kept, ignore_errors=True)
    path = remote / "files/md5" / md5[:2] / md5[2:]
    path.chmod(0o644)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=f"^mine: .*{said}"):
        dvc_files.fetch("mine", {"data": tmp_path / "x/data"})
    assert not (tmp_path / "x/data").exists() and not list(tmp_path.rglob("outside"))


def test_a_git_that_was_killed_is_told_as_that():
    """It says nothing itself."""
    killed = subprocess.run(["sh", "-c", "kill -9 $$"], capture_output=True, text=True)
    assert dvc_files.complaint(killed) == "it ended with -9"
