"""`make repro DATA=...`, `try`, `make reset`: a failed experiment leaves nothing, a way back loses
nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ferlab import params
from ferlab.files import UserError
from ferlab.workspace import attempt
from tests.builders import folder, images, tiny, zipped
from tests.conftest import REPOSITORY
from tests.repository import Repository

MAKE = "make -o .venv/core"  # as if the packages had been installed there


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with params.yaml alone."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture
def repository(finished, tmp_path):
    copied = Repository.copy(finished, tmp_path / "a [b] it's ü" / "repository")
    (copied.path / ".venv").symlink_to(sys.prefix)
    return copied


def refused(*changes):
    with pytest.raises(UserError) as caught:
        attempt.check(changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_that_is_wrong_with_an_experiment_is_told_before_anything_is_written(here):
    before = (here / "params.yaml").read_bytes()
    message = refused("train.model=smal", "train.epoch=3", "trian.seed=1", "evaluate.flip=maybe")
    for part in (
        "nothing was run or changed",
        "train.model = 'smal': unknown network, did you mean small?",
        "unknown key train.epoch, did you mean epochs?",
        "unknown key trian, did you mean train?",
        "evaluate.flip = 'maybe': input should be a valid boolean",
    ):
        assert part in message, message
    assert "train.model: is no key=value" in refused("train.model")
    assert (here / "params.yaml").read_bytes() == before
    assert [file.name for file in here.iterdir()] == ["params.yaml"]


def test_what_an_experiment_may_change_is_what_dvc_would_write(here):
    settings = attempt.check(
        ["train.learning_rate=1e-5", "balance.classes=[disgust,fear]", "explain.layers=[a,b]"]
    )
    assert settings.train.learning_rate == 1e-5
    assert settings.balance.classes == ["disgust", "fear"]
    assert settings.explain.layers == ["a", "b"]


@pytest.mark.parametrize(
    "place", ["a b.zip", "it's [1].zip", 'x"y,z=1;{2}.zip', "ü ~ (1)/*.csv", "a\\", "a\\'b\\\\"]
)
def test_data_may_lie_anywhere(here, place):
    assert attempt.check([attempt.dataset(place)]).download.dataset == place


def test_a_value_that_a_failed_experiment_left_is_told_with_the_way_back(here):
    path = here / "params.yaml"
    path.write_text(path.read_text().replace("model: small", "model: smal"))
    with pytest.raises(UserError) as caught:
        params.load()
    assert str(caught.value).endswith(
        "did you mean small?; correct it, or undo all changes: git checkout params.yaml"
    )


def test_a_clone_that_asks_for_crlf_gets_the_very_same_bytes(tmp_path):
    made = Repository.existing(tmp_path / "repository")
    made.path.mkdir()
    for name in (".gitattributes", "dvc.yaml", "docs/sample.png"):
        (made.path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, made.path / name)
    made("git init -q -b main && git add -A && git commit -qm start")
    made("git clone -q -c core.autocrlf=true -c core.eol=crlf . ../clone")
    for name in ("dvc.yaml", "docs/sample.png"):
        assert (tmp_path / "clone" / name).read_bytes() == (REPOSITORY / name).read_bytes()


@pytest.mark.slow
def test_a_checkout_within_a_larger_repository_works_alike(repository):
    """Git counts from its own top, DVC from the folder of .dvc."""
    shutil.rmtree(repository.path / ".git")
    repository("git init -q .. && git add -A .. && git commit -qm 'larger'")
    repository("dvc exp run --name sub -S evaluate.mistakes=3")
    repository.change({"  mistakes: 3": "  mistakes: 4"})  # else the workspace's is the same result
    repository("dvc repro")
    assert repository("python -m ferlab sync") == "2 results have their run in MLflow\n"
    assert "mistakes" in repository("python -m ferlab compare sub workspace")
    assert "as committed: download" in repository("python -m ferlab reset")
    assert "params.yaml" not in repository("git status --short")


def test_what_a_killed_dvc_leaves_beside_a_file_is_no_file_of_git_s():
    left = [f"{place}/.exZ2T5ImpfjnzxOHD5aLCw.tmp" for place in ("data", "models", "reports/eda")]
    ask = ["git", "check-ignore", "--no-index", *left]
    done = subprocess.run(ask, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.split() == left, done.stderr


@pytest.mark.slow
def test_what_a_killed_dvc_leaves_in_a_result_keeps_nobody_from_going_back(repository):
    """Its checkout writes each file beside its place first."""
    for place in ("reports", "reports/figures", "data/raw"):
        (repository.path / place / ".exZ2T5ImpfjnzxOHD5aLCw.tmp").write_text("half")
    assert ".tmp" not in repository("git status --short --untracked-files=all")
    assert "up to date" in repository("dvc status")
    assert "as committed: download, eda" in repository("python -m ferlab reset")


@pytest.mark.slow
def test_an_experiment_that_fails_leaves_params_yaml_as_it_was(repository):
    before = (repository.path / "params.yaml").read_bytes()
    for command in (
        f"{MAKE} repro DATA=nowhere.zip",
        "python -m ferlab try download.dataset=nowhere.zip train.epochs=3",
    ):
        done = repository.run(command)
        assert done.returncode != 0
        assert "nowhere.zip: not found" in done.stderr + done.stdout
        assert "params.yaml is as it was before" in done.stderr
        assert (repository.path / "params.yaml").read_bytes() == before
    done = repository.run(f"{MAKE} repro")
    assert done.returncode == 0, done.stderr


def test_a_second_try_at_the_same_time_is_refused_and_the_first_has_this_python_first(
    tmp_path, monkeypatch
):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attempt.files, "root", lambda: tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    began = []

    class Process(subprocess.Popen):
        def __init__(self, command, **options):
            if "dvc" not in command:  # but git
                return super().__init__(command, **options)
            began.append(options["env"]["PATH"])
            super().__init__(["true"])
            if len(began) == 1:
                with pytest.raises(UserError, match="another `python -m ferlab try` .* is at work"):
                    attempt.attempt(["train.epochs=3"])

    monkeypatch.setattr(attempt.subprocess, "Popen", Process)
    attempt.attempt(["train.epochs=2"])
    attempt.attempt(["train.epochs=4"])
    assert began == [f"{Path(sys.executable).parent}:/usr/bin"] * 2


@pytest.mark.parametrize("edit", ["", "seed: 0 -> seed: 7", "train: -> train: ["])
def test_a_failed_try_takes_back_its_own_changes_and_nobody_elses(tmp_path, monkeypatch, edit):
    file = Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path))
    before = file.read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attempt.files, "root", lambda: tmp_path)

    def fail(*arguments):
        attempt._apply([arguments[-1]], file)  # as DVC does
        file.write_text(file.read_text().replace(*(edit.split(" -> ") if edit else ("", ""))))
        return 1

    monkeypatch.setattr(attempt, "_dvc", fail)
    said = "was edited meanwhile and is left so" if edit else "is as it was before"
    with pytest.raises(UserError, match=said):
        attempt.attempt(["train.epochs=3"])
    assert (file.read_bytes() == before) is not bool(edit)
    assert not edit or "epochs: 3" in file.read_text()


def test_data_from_the_environment_is_told(tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("core", "dev"):
        (tmp_path / ".venv").mkdir(exist_ok=True)
        (tmp_path / ".venv" / name).touch()
    asked = {
        given: subprocess.run(
            ["make", "-n", "-o", ".venv/core", "repro", *arguments],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
        ).stdout
        for given, variables, arguments in (
            ("shell", {"DATA": "here"}, []),
            ("command", {}, ["DATA=here"]),
            ("nothing", {}, []),
        )
    }
    told = "is set in this shell; unset DATA"
    assert told in asked["shell"] and told not in asked["command"] + asked["nothing"]
    assert "ferlab try --data" in asked["shell"] and "ferlab try --data" in asked["command"]
    assert "dvc repro" in asked["nothing"]


@pytest.mark.slow
def test_ones_own_faces_in_bare_class_folders_train_to_the_end_in_one_command(repository):
    """Classes of any name, no train, no test: what only FER2013 has is not shown."""
    words = {"angry": "Frown?", "happy": "Smile!", "sad": "7"}
    made = tiny(train=12, splits=(), classes=sorted(words), official=False)
    files = images(made, folders={"train": ""}, spell=words.get)
    folder(repository.path.parent / "own faces", {name.strip("/"): files[name] for name in files})
    output = repository(f'{MAKE} repro DATA="../own faces"')
    for part in (
        "classes: 7, frown?, smile! (none of FER2013's seven)",
        "cut from 36 training images: 3 private and 3 public",
        "too few to learn from",
        "Another experiment than the pinned one: download.dataset data.zip -> ../own faces.",
    ):
        assert part in output, output
    page = (repository.path / "reports/report.html").read_text()
    assert "Cut from 36 training images" in page
    said = page.partition("</style>")[2].partition("<details><summary>All of params")[0] + output
    for part in ("disgust", "Six classes", "6 classes", "FER+ asked", "strategy=merge"):
        assert part not in said, part
    run = next(run for run in repository.runs() if run.data.tags.get("ferlab.complete"))
    assert {"private/7_recall", "private/smile__recall"} <= set(run.data.metrics)
    assert "own faces" in repository(f"{MAKE} show")


@pytest.mark.slow
def test_classes_that_are_called_by_numbers_are_reported(repository):
    words = {"angry": "1", "happy": "02", "sad": "nan"}
    files = images(tiny(classes=sorted(words), official=False), spell=words.get)
    zipped(repository.path / "numbers.zip", files)
    repository(f"{MAKE} repro DATA=numbers.zip")
    details = json.loads((repository.path / "reports/details.json").read_text())
    assert details["classes"] == sorted(words.values())
    assert (repository.path / "reports/report.html").exists()


@pytest.mark.slow
def test_an_experiment_on_data_with_an_unusual_name_runs(repository):
    name = "it's [1] ü.zip"
    (repository.path / "data.zip").rename(repository.path / name)
    repository(f'{MAKE} repro DATA="{name}"')
    assert params.load(repository.path / "params.yaml").download.dataset == name


@pytest.mark.slow
def test_reset_takes_ones_own_result_where_the_commits_is_of_another_machine(repository):
    """The committed dvc.lock names a model that nobody has here; the own one is in the cache."""
    lock, model = repository.path / "dvc.lock", repository.path / "models/model.keras"
    own, trained = lock.read_text(), model.read_bytes()
    of_training = r"- path: ((?:models|reports)/(?!eda|balance)\S+)\n +hash: md5\n +md5: (\w{32})"
    theirs = own
    for _, md5 in re.findall(of_training, own):
        theirs = theirs.replace(md5, "a" * 32)
    lock.write_text(theirs)
    (repository.path / "reports/metrics.json").write_text("{}")
    repository("git add -A && git commit -qm 'of another machine'")
    lock.write_text(own)
    model.unlink()
    repository.change({"  epochs: 2": "  epochs: 3"})

    said = repository(f"{MAKE} reset")
    assert "as committed: download, eda, balance" in said
    assert "this machine's own, from its cache: train, predict, evaluate, explain" in said
    assert model.read_bytes() == trained
    assert repository("git diff --name-only").split() == ["dvc.lock", "reports/metrics.json"]
    assert repository.stages_run(repository("dvc repro")) == []

    model.write_bytes(b"somebody's own")
    refused = repository.run(f"{MAKE} reset")
    assert refused.returncode and "in no cache; move it away" in refused.stderr
    assert model.read_bytes() == b"somebody's own"
    model.unlink()
    shutil.rmtree(repository.path / ".dvc/cache/runs")
    assert "not in this machine's cache: train" in repository(f"{MAKE} reset")
