"""Files are replaced whole or not at all, and what a user can fix is one line."""

import errno
import itertools
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import ferlab.__main__
import stages
from ferlab import cli, files, secrets
from ferlab.workspace import memory
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


def killed_at(number, call):
    """Whether a child that calls `call` meets a SIGKILL just before its `number`-th use of files.

    Python reports each to its audit hooks: open, listdir, mkdir, rename, remove, rmdir.
    """
    child = os.fork()
    if not child:
        uses = itertools.count(1)

        def hook(event, arguments):
            if event.partition(".")[0] in ("open", "os", "shutil") and next(uses) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            call()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def write_file(path, content):
    with files.replacing(path) as part:
        part.write_text(content)


def write_folder(path, content):
    with files.replacing(path) as part:
        part.mkdir()
        for name in "ab":
            (part / name).write_text(content)


def held(path):
    if path.is_dir():
        return {file.name: file.read_text() for file in path.iterdir()}
    return path.read_text() if path.exists() else None


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("name", ["plain", "with [a-z]* 'in' it.csv"])
def test_a_kill_at_any_moment_of_a_replacement_loses_nothing(tmp_path, write, name):
    """Afterwards a call that fails still leaves the old or the new one, whole and alone."""
    path, kills = tmp_path / "folder" / name, 0
    write(path, "old")
    old = held(path)
    write(path, "new")
    new = held(path)
    for number in itertools.count(1):
        shutil.rmtree(path.parent)
        write(path, "old")
        if not killed_at(number, lambda: write(path, "new")):
            break
        kills += 1
        # a file is never missing; a folder may be, until the next call moves it back
        assert held(path) in ((old, new) if write is write_file else (old, new, None))
        with pytest.raises(RuntimeError), files.replacing(path):
            raise RuntimeError
        assert held(path) in (old, new), number
        assert [file.name for file in path.parent.iterdir()] == [name], number
    assert kills >= 4 and held(path) == new


def test_what_was_left_of_another_file_or_by_this_process_stops_nothing(tmp_path):
    ours = f".table.csv.{os.getpid()}.part"  # of an earlier process that had the same number
    (tmp_path / f"{ours}-old").mkdir()
    (tmp_path / f"{ours}-old" / "x").write_text("x")
    (tmp_path / f"{ours}.mp4").write_text("x")
    other = tmp_path / f".table.csv.gz.{2**22 + 1}.part"
    other.write_text("of table.csv.gz")
    (tmp_path / "table.csv").mkdir()
    write_folder(tmp_path / "table.csv", "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == [other.name, "table.csv"]
    assert held(tmp_path / "table.csv") == {"a": "new", "b": "new"}


def test_a_link_in_a_folders_place_is_replaced_and_what_it_led_to_stays(tmp_path):
    write_folder(tmp_path / "elsewhere", "old")
    for target in ("elsewhere", "nowhere"):
        (tmp_path / "link").symlink_to(target)
        write_folder(tmp_path / "link", "new")
        assert held(tmp_path / "link") == {"a": "new", "b": "new"}
        assert held(tmp_path / "elsewhere") == {"a": "old", "b": "old"}
        assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "link"]
        shutil.rmtree(tmp_path / "link")


def test_an_error_of_another_program_becomes_one_line():
    assert files.one_line(ValueError("a\n  b\tc")) == "a b c"
    assert files.one_line(ValueError()) == "ValueError"
    assert len(files.one_line(ValueError("x" * 500))) == 120
    ours = files.UserError("x" * 200 + "; do this")  # an error of this project ends with the fix
    assert files.one_line(ours) == secrets.one_line(ours) == str(ours)
    hidden = secrets.one_line(files.UserError("s3://me:password@host/x" + "x" * 200 + "; do this"))
    assert "password" not in hidden and hidden.endswith("; do this")
    assert len(secrets.one_line(ValueError("x" * 500))) == 120


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


@pytest.mark.parametrize("year", [1970, 2108])
@pytest.mark.parametrize("called", ["stage", "verb"])
def test_a_wrong_clock_is_one_line_before_anything_is_begun(year, called, monkeypatch):
    """No zip can bear such a year, so no model and no checkpoint could be written."""
    begun, now = [], time.struct_time((year, 1, 1, 0, 0, 0, 3, 1, 0))
    monkeypatch.setattr(time, "localtime", lambda *_: now)
    monkeypatch.setattr(sys, "argv", ["ferlab", "show"])
    monkeypatch.setattr("ferlab.reporting.summary.text", lambda: begun.append("show") or "")
    with pytest.raises(SystemExit) as caught:
        if called == "stage":
            monkeypatch.setattr(sys, "argv", ["train"])
            stages.run(begun.append)
        else:
            ferlab.__main__.main()
    assert caught.value.code == f"error: this machine's clock says {year}-01-01: set it"
    assert begun == []


def test_a_file_that_is_missing_is_one_line_in_a_stage_as_in_a_verb(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["evaluate"])
    with pytest.raises(SystemExit) as caught:
        stages.run(lambda experiment: Path("no/such.csv").read_bytes())
    assert caught.value.code == "error: no/such.csv: no such file or directory"


class ResourceExhaustedError(Exception):
    """As TensorFlow's is called."""


class JaxRuntimeError(Exception):
    """As JAX' is called."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "no"),
        ResourceExhaustedError("OOM"),
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
    ],
)
def test_no_memory_is_one_line(error):
    with pytest.raises(SystemExit) as caught, cli.errors_in_one_line():
        raise error
    assert caught.value.code.startswith("error: out of memory; close other programs")


def test_what_may_not_be_read_is_to_be_allowed_and_what_may_not_be_written_as_well(
    tmp_path, monkeypatch
):
    (tmp_path / "mine").write_text("x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as anyone but root
    for name, fix in (("mine", "allow reading it"), ("new", "make room or allow writing")):
        error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / name))
        with pytest.raises(SystemExit) as caught, cli.errors_in_one_line():
            raise error
        said = f"error: {tmp_path / name}: permission denied; {fix}, then run again"
        assert caught.value.code == said


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("skimage", "requirements-dev.txt"),
        ("jax._src", "requirements-gpu.txt"),
        ("keras", "requirements.txt"),
    ],
)
def test_a_package_that_is_missing_comes_from_the_lock_that_has_it(name, lock):
    with pytest.raises(SystemExit) as caught, cli.errors_in_one_line():
        raise ModuleNotFoundError(name=name)
    assert caught.value.code.endswith(f"pip install --require-hashes -r {lock}")
    package = {"skimage": "scikit-image"}.get(name, name.partition(".")[0])
    assert f"\n{package}" in (REPOSITORY / lock).read_text()


@pytest.mark.parametrize(
    ("limit", "used", "cached", "said"),
    [
        ("1400000000", "900000000", 0, "0.5 GB"),
        ("4000000000", "3900000000", 2_000_000_000, None),  # files that were read or unpacked
        ("max", "9", 0, None),
    ],
)
def test_too_little_memory_in_a_container_is_said_before(
    tmp_path, monkeypatch, limit, used, cached, said
):
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9))
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nslab 2\n")
    warning = memory.warning()
    assert warning is None if said is None else f"{said} are free" in warning


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("> /dev/full", 1, "error: a file: no space left on device; make room"),
        ("| true", 1, ""),
    ],
)
def test_short_output_that_cannot_be_written_is_told_as_any_other(output, code, said):
    verb = "import time; from ferlab.cli import errors_in_one_line as frame\nwith frame():\n"
    verb += "    time.sleep(0.3); print('a short line')"
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -c {shlex.quote(verb)} {output}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr.strip()[: len(said) or None]) == (code, said)
