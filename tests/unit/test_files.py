"""Files are replaced whole or not at all, and what a user can fix is one line."""

import errno
import resource
import subprocess
import sys

import pytest

from ferlab import files
from tests.conftest import REPOSITORY


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"new": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert files.read_json(path) == {"old": 1}


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with files.replacing(tmp_path / "folder") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [file.name for file in tmp_path.rglob("*")] == ["folder", "two"]
    with pytest.raises(RuntimeError), files.replacing(tmp_path / "folder") as part:
        part.mkdir()
        (part / "three").write_text("three")
        raise RuntimeError
    assert [file.name for file in tmp_path.rglob("*")] == ["folder", "two"]


def test_an_error_of_another_program_becomes_one_line():
    assert files.one_line(ValueError("a\n  b\tc")) == "a b c"
    assert files.one_line(ValueError()) == "ValueError"
    assert len(files.one_line(ValueError("x" * 500))) == 120


def test_hashes_are_those_of_the_standard_tools(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert files.md5(path) == "900150983cd24fb0d6963f7d28e17f72"
    assert files.sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_stage_that_may_not_write_says_so_in_one_line_and_leaves_no_half_output(tmp_path):
    """A limit on the size of files stands in for a full disk: 23 MB of faces do not fit."""
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "stages.download"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["data", "params.yaml"]


def test_an_error_of_our_own_making_still_shows_its_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from stages import run\nrun(lambda here: 1 / 0)"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr
