"""What runs here: pinned packages without known vulnerabilities, no pickle, no open server."""

import datetime
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.markers import Marker

from ferlab.data.dataset import Dataset
from ferlab.files import UserError
from ferlab.tracking import store
from ferlab.training import checkpoint
from tests import audit
from tests.conftest import REPOSITORY
from tests.synthetic import make

PLATFORMS = {
    "Linux x86-64": ("linux", "Linux", "x86_64"),
    "Linux arm64": ("linux", "Linux", "aarch64"),
    "macOS arm64": ("darwin", "Darwin", "arm64"),
}


def pins(lock):
    """[(name, version, marker or None, hashes)] of a lock file."""
    entries = re.split(r"(?m)^(?=\S)", (REPOSITORY / lock).read_text().replace("\\\n", ""))
    pinned = []
    for entry in filter(None, (entry.partition("#")[0].strip() for entry in entries)):
        parts = re.match(r"([\w.\[\]-]+)==(\S+?)(?:\s*;\s*(.+?))?(?=\s+--hash|$)", entry)
        assert parts, entry
        name, version, marker = parts.groups()
        hashes = re.findall(r"--hash=(\S+)", entry)
        pinned.append((name, version, marker and Marker(marker), hashes))
    return pinned


def wanted():
    """The lines of requirements.in, without comments: ["numpy<2.5", ...]."""
    lines = (REPOSITORY / "requirements.in").read_text().splitlines()
    return [line.partition("#")[0].strip() for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("lock", audit.LOCKS)
def test_every_package_is_pinned_and_hashed_and_no_registry_is_named(lock):
    assert pins(lock)
    for name, _, _, hashes in pins(lock):
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), name
    assert not re.search(
        r"(?m)^(-i|--index|--extra|--find)|https?://|file:", (REPOSITORY / lock).read_text()
    )


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_covers_every_platform_once(platform, python):
    """Each direct requirement has exactly one version there, and no other package has two."""
    system, named, machine = PLATFORMS[platform]
    about = {
        "sys_platform": system,
        "platform_system": named,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.5",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    installed = [
        name
        for name, _, marker, _ in pins("requirements.txt")
        if marker is None or marker.evaluate(about)
    ]
    assert len(installed) == len(set(installed))
    names = [re.match(r"[\w.-]+", line)[0] for line in wanted()]
    assert {re.sub("[._]", "-", name.lower()) for name in names} <= set(installed)


def test_uv_installs_what_make_installs_from_the_default_registry():
    text = (REPOSITORY / "uv.lock").read_text()
    locked = {
        (package["name"], package["version"])
        for package in tomllib.loads(text)["package"]
        if package["name"] != "ferlab"
    }
    assert locked == {(name, version) for name, version, _, _ in pins("requirements.txt")}
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"pypi.org", "files.pythonhosted.org"}
    (ours,) = (each for each in tomllib.loads(text)["package"] if each["name"] == "ferlab")
    locked = [
        f"{each['name']}{each.get('specifier', '')}" for each in ours["metadata"]["requires-dist"]
    ]
    declared = [line.replace("ruamel.yaml", "ruamel-yaml") for line in wanted()]
    assert sorted(locked) == sorted(line.replace(".clib", "-clib") for line in declared)


def test_the_light_way_has_the_versions_of_the_whole_and_no_tensorflow():
    light, whole = (
        {name: version for name, version, _, _ in pins(f"requirements{kind}.txt")}
        for kind in ("-predict", "-dev")
    )
    whole |= {name: version for name, version, _, _ in pins("requirements.txt")}
    assert len(light) < 50
    assert {"onnxruntime", "opencv-python-headless"} <= set(light)
    assert not {"tensorflow", "keras", "torch", "jax", "mlflow", "dvc"} & set(light)
    assert {name for name in light if whole.get(name, light[name]) != light[name]} == set()


def test_git_ignores_every_page_that_may_show_real_faces():
    pages = [
        "reports/compare.html",
        "reports/report.html",
        "reports/explain/explain.html",
        "reports/leaderboard.html",
        "recipes/runs/speedrun/explain/explain.html",
        ".ferlab/bench/faces/faces.npy",
    ]
    ignored = subprocess.run(
        ["git", "check-ignore", *pages], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    assert ignored == pages


class Payload:
    """Touches a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled_array(path, file):
    np.save(file, np.array([Payload(path)], dtype=object), allow_pickle=True)


def test_a_pickle_in_a_dataset_or_a_checkpoint_is_refused_and_never_run(tmp_path):
    executed = tmp_path / "executed"
    make({"angry": 2, "happy": 2}).save(tmp_path / "data")
    pickled_array(executed, tmp_path / "data/faces.npy")
    with pytest.raises(UserError, match="not a ferlab dataset"):
        Dataset.load(tmp_path / "data")
    state = np.frombuffer(b"{}", np.uint8)
    weights = np.array([Payload(executed)], dtype=object)
    np.savez(tmp_path / "checkpoint.npz", **{"state": state, "weights-0": weights})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoint.load(tmp_path / "checkpoint.npz")
    assert not executed.exists()
    with pytest.raises(IndexError):  # the check above can fail: NumPy runs it where it may
        np.load(tmp_path / "data/faces.npy", allow_pickle=True)[1]
    assert executed.exists()


def test_a_pickled_model_of_a_tracking_store_is_refused(tmp_path, monkeypatch):
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    python = {"python_model": lambda model_input: model_input, "pip_requirements": ["mlflow"]}
    mlflow.pyfunc.save_model(tmp_path / "model", **python)
    mlflow.pyfunc.load_model(tmp_path / "model")
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")
    with store.store(), pytest.raises(mlflow.MlflowException, match="(?i)pickle"):
        mlflow.pyfunc.load_model(tmp_path / "model")


def entry(**changes):
    """An entry of audit-exceptions.toml, with other values, or without those that are None."""
    values = {
        "id": '"X-1"',
        "package": '"numpy"',
        "reason": '"we never call that function"',
        "until": "2026-12-31",
    } | changes
    lines = [f"{key} = {value}\n" for key, value in values.items() if value]
    return "".join(["[[exception]]\n", *lines])


def test_the_exceptions_of_the_audit_are_dated_and_reasoned():
    committed = (REPOSITORY / "audit-exceptions.toml").read_text()
    assert audit.exceptions(committed, datetime.date.today())[1] == []
    today = datetime.date(2026, 11, 1)
    assert set(audit.exceptions(entry(), today)[0]) == {"X-1"}
    for changes, message in (
        ({"until": "2026-10-31"}, "ended on 2026-10-31"),
        ({"until": '"soon"'}, "a date"),
        ({"reason": '"no"'}, "a sentence"),
        ({"reason": None}, "needs id"),
    ):
        valid, invalid = audit.exceptions(entry(**changes), today)
        assert valid == {} and len(invalid) == 1 and message in invalid[0]


def test_a_vulnerability_needs_an_exception_for_its_package():
    vulnerability = {"id": "X-0", "aliases": ["X-1"], "fix_versions": ["1.1"]}
    report = {
        "dependencies": [
            {"name": "numpy", "version": "1.0", "vulns": [vulnerability]},
            {"name": "pandas", "version": "1.0", "vulns": []},
            {"name": "other", "skip_reason": "not found"},
        ]
    }
    assert audit.unexcused(report, {}) == (["numpy 1.0: X-0 (fixed in 1.1)"], 2)
    assert audit.unexcused(report, {"X-1": {"package": "numpy"}}) == ([], 2)
    assert audit.unexcused(report, {"X-1": {"package": "pandas"}})[0]
