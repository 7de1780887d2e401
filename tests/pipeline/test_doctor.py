"""The doctor finds each trouble that it knows, and none where there is none."""

import contextlib
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import psutil
import pytest

from ferlab import doctor
from ferlab.doctor import killed, services
from ferlab.files import UserError
from ferlab.tracking import store
from ferlab.workspace import reset
from tests.conftest import REPOSITORY
from tests.repository import Repository, wait_for


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    made = Repository(tmp_path_factory.mktemp("doctor") / "repository")
    made("git config user.name t && git config user.email t@example.org")
    return made


def troubles(repository, **more):
    done = repository.run("python -m ferlab doctor", **more)
    lines = [line[2:] for line in done.stdout.splitlines() if line.startswith("! ")]
    assert done.returncode == bool(lines), done.stdout + done.stderr
    assert "cpu " in done.stdout
    return " | ".join(line for line in lines if "free on this disk" not in line)  # of this machine


def troubles_with(repository, file, old, new):
    """The troubles while `old` is `new` in a file."""
    path = repository.path / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    try:
        return troubles(repository)
    finally:
        path.write_text(before)


def test_a_healthy_repository_has_no_trouble(repository):
    assert troubles(repository) == ""


def test_changed_and_wrong_parameters_are_found(repository):
    reported = troubles_with(repository, "params.yaml", "  epochs: 2", "  epoch: 2")
    assert "unknown key train.epoch" in reported


def test_a_detached_head_is_found(repository):
    repository("git checkout -q --detach")
    assert "HEAD is detached" in troubles(repository)
    repository("git checkout -q main")


def test_while_dvc_is_at_work_nothing_is_advised_that_would_destroy_it(repository, monkeypatch):
    """HEAD is detached, outputs are away and epochs unfinished while `dvc exp run` lives."""
    monkeypatch.chdir(repository.path)
    repository("git checkout -q --detach")
    note, inside = (repository.path / name for name in (".ferlab/resume/abc", ".dvc/tmp/exps/x"))
    for folder in (note, inside):
        folder.mkdir(parents=True)
    (note / "live.json").write_text(json.dumps({"epoch": 2}))
    command = ["dvc", "-c", "import time; time.sleep(100)", "exp", "run"]
    try:
        for folder in (repository.path, inside):
            at_work = subprocess.Popen(command, executable=sys.executable, cwd=folder)
            about, found = doctor.report()
            assert [what for what, _ in found if "HEAD" in what or "epochs" in what] == []
            assert any(f"exp run (process {at_work.pid})" in line for line in about)
            with pytest.raises(UserError, match="at work here .*: wait for it, or end it"):
                reset.reset()
            at_work.kill()
            at_work.wait()
        _, found = doctor.report()
        told = " | ".join(what for what, _ in found)
        assert "HEAD is detached" in told and "stopped after 2 epochs" in told
    finally:
        at_work.kill()
        shutil.rmtree(note.parent)
        repository("git checkout -q main")


def test_a_folder_of_another_user_is_told_as_that(repository):
    other = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    done = repository.run("python -m ferlab doctor", **other)
    assert "belongs to another user" in done.stdout and "git init" not in done.stdout
    assert f"git config --global --add safe.directory {repository.path}" in done.stdout
    for command in ("make repro", "python -m ferlab use vgg"):
        done = repository.run(command, **other)
        assert "safe.directory" in done.stderr and "git init" not in done.stderr, command
        assert done.returncode


def test_a_lock_of_a_dead_process_is_found(repository):
    for folder in (".dvc/tmp", "recipes/.dvc/tmp"):
        lock = repository.path / folder / "rwlock"
        lock.parent.mkdir(exist_ok=True, parents=True)
        lock.write_text(json.dumps({"data/raw": {"write": {"pid": 2**22 + 1, "cmd": "dvc repro"}}}))
        assert "held by processes that have ended" in troubles(repository)
        lock.write_text(lock.read_text()[:-9])
        assert "is half written" in troubles(repository)
        lock.unlink()


def test_a_lock_of_a_killed_git_is_found_and_told_by_what_meets_it(repository):
    lock = repository.path / ".git/index.lock"
    lock.touch()
    done = repository.run("python -m ferlab reset")
    assert done.stderr.strip().endswith(f"left its lock: rm {lock}")
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=repository.path, stdin=-1) as alive:
        assert "Git is locked" not in troubles(repository)
        alive.kill()
    done = repository.run("python -m ferlab doctor")
    fix = done.stdout.partition("! Git is locked by a process that has ended\n")[2].splitlines()[0]
    repository(fix)
    assert not lock.exists() and troubles(repository) == ""


def test_what_is_advised_works_in_the_order_given(repository):
    """As a killed `dvc exp run` leaves it: a detached HEAD, and Git's lock."""
    repository("git checkout -q --detach")
    (repository.path / ".git/index.lock").touch()
    lines = repository.run("python -m ferlab doctor").stdout.splitlines()
    fixes = [after for line, after in itertools.pairwise(lines) if line.startswith("! ")]
    assert len(fixes) == 2
    for fix in fixes:
        repository(fix.partition(" (")[0].replace("<your branch>", "main"))
    assert troubles(repository) == ""


def test_servers_and_remotes_that_cannot_be_used_are_found(repository):
    address = "http://127.0.0.1:abc"
    assert f"MLFLOW_TRACKING_URI={address}: nobody answers" in troubles(
        repository, MLFLOW_TRACKING_URI=address
    )
    remote = "['remote \"group\"']\n    url = s3://data/dvc\n"
    reported = troubles_with(
        repository, ".dvc/config", "[core]\n", f"{remote}[core]\n    remote = group\n"
    )
    assert "DVC's remote group (s3://data/dvc): no credentials" in reported
    assert "config" in troubles_with(repository, ".dvc/config", "[core]", "[core")


def test_an_unfinished_training_and_missing_data_are_found(repository):
    note = repository.path / ".ferlab/resume/abc/live.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"epoch": 2}))
    reported = troubles_with(repository, "params.yaml", "  epochs: 2", "  epochs: 3")
    assert "a training stopped after 2 epochs" in reported
    assert "params.yaml differs from the last commit" in reported
    note.unlink()
    assert "FER2013=/no/where: not found" in troubles(repository, FER2013="/no/where")


def test_another_version_than_the_pinned_one_is_found(repository):
    assert "keras" in troubles_with(repository, "requirements.txt", "\nkeras==", "\nkeras==0.0")


def test_a_folder_without_commit_is_found(repository, tmp_path):
    shutil.copytree(repository.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    done = repository.run(f"cd {tmp_path}/copy && python -m ferlab doctor")
    assert "no Git repository with a commit" in done.stdout


def test_a_missing_git_identity_is_found(repository):
    repository("git config --unset user.email")
    assert "DVC's experiments need them" in troubles(repository)
    repository("git config user.email t@example.org")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a pipeline of two outputs, its lock, and a cache that holds one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    stage = {"cmd": "x", "outs": ["a.csv", {"b.csv": {"cache": True}}]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"make": stage}}))
    outs = [{"path": name, "md5": number * 32} for name, number in (("a.csv", "1"), ("b.csv", "2"))]
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"make": {"outs": outs}}}))
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".dvc/cache/files/md5/11").mkdir(parents=True)
    (tmp_path / ".dvc/cache/files/md5/11" / ("1" * 30)).write_text("x")
    return tmp_path


def test_a_missing_output_is_found_with_the_command_that_brings_it(folder):
    assert list(doctor.missing()) == []
    for name in ("a.csv", "b.csv"):
        (folder / name).unlink()
    assert list(doctor.missing()) == [
        ("a.csv is missing, though dvc.lock names it", "dvc checkout"),
        ("b.csv is missing, though dvc.lock names it", "dvc repro makes it again"),
    ]
    shutil.rmtree(folder / ".dvc")  # a fresh clone: nothing was ever made
    assert list(doctor.missing()) == []


def test_a_missing_output_is_found_where_the_cache_is_elsewhere(folder, tmp_path):
    (folder / ".dvc/cache").rename(tmp_path / "shared")
    (folder / "a.csv").unlink()
    assert list(doctor.missing()) == []
    (folder / ".dvc/config").write_text(f"[cache]\ndir = {tmp_path / 'shared'}\n")
    assert [fix for _, fix in doctor.missing()] == ["dvc checkout"]


@pytest.mark.parametrize("name", ["FER2013", "FER2013_FOLDERS", "CK48"])
def test_real_data_that_is_not_where_it_is_said_to_be_is_found(folder, name, monkeypatch):
    for variable in ("FER2013", "FER2013_FOLDERS", "CK48"):
        monkeypatch.delenv(variable, raising=False)
    assert list(doctor.real_data()) == []
    for there in ("a.csv", "https://example.org/fer2013.zip"):
        monkeypatch.setenv(name, there)
        assert list(doctor.real_data()) == []
    for gone in ("c.csv", "~nobody-here/fer2013.zip"):
        monkeypatch.setenv(name, gone)
        ((what, fix),) = doctor.real_data()
        assert what == f"{name}={gone}: not found" and fix.startswith(f"export {name}=<your copy>")


def test_the_folder_of_a_killed_experiment_is_found(folder):
    assert list(killed.folders()) == []
    (folder / ".dvc/tmp/exps/tmpabc/data").mkdir(parents=True)
    ((what, fix),) = killed.folders()
    assert what.startswith("1 folder of killed experiments") and "tmpabc" in what
    subprocess.run(fix, shell=True, check=True)
    assert list(killed.folders()) == []


@pytest.mark.slow
def test_a_queue_whose_workers_were_killed_is_found_and_what_is_advised_works(tmp_path):
    """DVC calls such experiments running for ever, and `dvc queue start` does not take them up."""
    made = Repository.existing(tmp_path / "repository")
    made.path.mkdir()
    pids = made.path / "pids"
    stage = {"cmd": f"echo $$ >> '{pids}'; test -e '{pids}.go' || sleep 600; echo > out"}
    stage |= {"params": ["seed"], "outs": ["out"]}
    (made.path / "dvc.yaml").write_text(json.dumps({"stages": {"wait": stage}}))
    (made.path / "params.yaml").write_text("seed: 0\n")
    (made.path / ".gitignore").write_text("pids*\nout\n")
    made("git init -q -b main && dvc init -q && git add -A && git commit -qm start")
    ask = f"cd {REPOSITORY} && DVC_ROOT='{made.path}' python -c 'from ferlab.doctor import killed"
    ask += "; print(*next(killed.queue(), ()), sep=chr(10))'"
    queue = "dvc exp run --queue -S seed=1,2 && dvc queue start -j 2 >../log 2>&1"  # not our pipe
    made(queue)
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    for process in psutil.process_iter():  # workers and stages, wherever they run below
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(made.path):
                process.kill()
    assert made("dvc queue status").count("Running") == 2
    what, fix = made(ask).strip().splitlines()[-2:]
    assert "2 experiments as running whose workers have ended" in what
    made(fix.partition(";")[0])
    assert not made(ask).strip() and "Running" not in made("dvc queue status")
    Path(f"{pids}.go").touch()
    made(queue)
    wait_for(lambda: made("dvc queue status").count("Success") == 2, pause=1)


def test_a_list_that_would_write_outside_the_checkout_is_found(folder):
    assert list(doctor.dvc_lists()) == []
    (folder / ".dvc/cache/files/md5/11/2.dir").write_text('[{"md5": "1", "relpath": "../x"}]')
    assert "do not check it out" in next(doctor.dvc_lists())[0]


def test_a_lock_of_an_older_pipeline_is_found(folder):
    assert list(doctor.old_lock()) == []
    (folder / "dvc.yaml").write_text((folder / "dvc.yaml").read_text().replace("a.csv", "c.csv"))
    assert "(it names a.csv)" in next(doctor.old_lock())[0]
    (folder / "dvc.lock").write_text("<<<<<<< HEAD")
    assert list(doctor.old_lock()) == list(doctor.missing()) == []


def test_a_full_disk_is_found(folder, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2**33))
    assert list(doctor.disk()) == []
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2**30))
    assert "1.0 GiB free" in next(doctor.disk())[0]


def test_a_run_whose_process_has_died_is_found_and_a_living_one_is_not(folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", ""
    )  # MLflow sets it in this process; gone after the test
    assert list(services.tracking()) == []
    with store.store() as client:
        experiment = client.create_experiment("x")
        client.create_run(experiment, run_name="lives", tags=store.process())
        client.create_run(
            experiment, run_name="died", tags=store.process() | {"ferlab.started": "1.0"}
        )
    assert [what for what, _ in services.tracking()] == [
        "MLflow shows 1 run as running that no process is at any more (died)"
    ]
    with store.store() as client:
        store.mark_dead_runs(client)
        runs = client.search_runs([experiment])
    assert {run.info.run_name: run.info.status for run in runs} == {
        "lives": "RUNNING",
        "died": "KILLED",
    }
    assert list(services.tracking()) == []
    (folder / "mlflow.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in next(services.tracking())[0]


@pytest.mark.parametrize(
    ("code", "what", "fix"),
    [
        ("404", "there is no such bucket", "create it"),
        ("403", "access is refused", "check AWS_ACCESS_KEY_ID"),
        ("500", "answers 500", "ask who runs it"),
    ],
)
def test_what_a_bucket_answers_is_said_with_what_to_do(monkeypatch, code, what, fix):
    from botocore.exceptions import ClientError

    class Client:
        def head_bucket(self, Bucket):
            raise ClientError({"Error": {"Code": code}}, "HeadBucket")

    monkeypatch.setattr(services, "_s3_client", lambda about: Client())
    said, advice = services._s3("data", {})
    assert said == what and advice.startswith(fix)


def test_paths_in_advice_can_be_pasted_whatever_is_in_them(tmp_path):
    path = tmp_path / "my lab" / "rwlock"
    path.parent.mkdir()
    path.write_text("{")
    ((_, fix),) = killed._lock(path)
    assert shlex.split(fix) == ["rm", str(path)]
