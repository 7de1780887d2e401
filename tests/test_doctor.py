"""The doctor finds each trouble that it knows, and none where there is none."""

import json

import pytest

from tests.repository import Repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    made = Repository(tmp_path_factory.mktemp("doctor") / "repository")
    made("git config user.name t && git config user.email t@example.org")
    return made


def troubles(repository, **more):
    done = repository.run("python -m ferlab doctor", **more)
    found = [line[2:] for line in done.stdout.splitlines() if line.startswith("! ")]
    assert done.returncode == bool(found), done.stdout + done.stderr
    assert "cpu " in done.stdout
    return " | ".join(found)


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
    found = troubles_with(repository, "params.yaml", "  epochs: 2", "  epoch: 2")
    assert "unknown key train.epoch" in found


def test_a_detached_head_is_found(repository):
    repository("git checkout -q --detach")
    assert "HEAD is detached" in troubles(repository)
    repository("git checkout -q main")


def test_a_lock_of_a_dead_process_is_found(repository):
    lock = repository.path / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"data/raw": {"write": {"pid": 2**22 + 1, "cmd": "dvc repro"}}}))
    assert "held by processes that have ended" in troubles(repository)
    lock.unlink()


def test_an_unfinished_training_and_missing_data_are_found(repository):
    note = repository.path / ".ferlab/resume/abc/live.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"epoch": 2}))
    found = troubles_with(repository, "params.yaml", "  epochs: 2", "  epochs: 3")
    assert "a training stopped after 2 epochs" in found
    assert "params.yaml differs from the last commit" in found
    note.unlink()
    assert "FER2013=/no/where: not found" in troubles(repository, FER2013="/no/where")


def test_another_version_than_the_pinned_one_is_found(repository):
    assert "keras" in troubles_with(repository, "requirements.txt", "\nkeras==", "\nkeras==0.0")


def test_a_folder_without_commit_is_found(repository, tmp_path):
    import shutil

    shutil.copytree(repository.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    done = repository.run(f"cd {tmp_path}/copy && python -m ferlab doctor")
    assert "no Git repository with a commit" in done.stdout


def test_a_missing_git_identity_is_found(repository):
    repository("git config --unset user.email")
    assert "DVC's experiments need them" in troubles(repository)
    repository("git config user.email t@example.org")
