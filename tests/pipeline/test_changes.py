"""A finished repository in which a parameter changes: what runs again, and what an error leaves."""

import pytest

from tests.repository import Repository


@pytest.fixture(scope="module")
def repository(finished, tmp_path_factory):
    return Repository.copy(finished, tmp_path_factory.mktemp("changes") / "repository")


@pytest.mark.slow
def test_a_changed_evaluation_runs_only_that_and_changing_back_runs_nothing(repository):
    before = repository.change({"  mistakes: 24": "  mistakes: 5"})
    assert repository.stages_run(repository("dvc repro")) == ["evaluate", "explain"]
    (repository.path / "params.yaml").write_text(before)
    assert repository.stages_run(repository("dvc repro")) == []
    assert repository("git status --porcelain") == ""


def test_a_comment_in_params_makes_nothing_stale(repository):
    before = repository.change({"  mistakes: 24": "  # a remark\n  mistakes: 24"})
    assert repository("dvc status -q") == ""
    (repository.path / "params.yaml").write_text(before)


@pytest.mark.slow
def test_a_wrong_parameter_is_one_line_and_keeps_the_last_result(repository):
    lock = (repository.path / "dvc.lock").read_text()
    for old, new, message in (
        # DVC's own line; it ends in ferlab/models/tiny.py
        ("  model: small", "  model: tiny", "No such file or directory: '"),
        ("  dataset: data.zip", "  dataset: nowhere.zip", "error: nowhere.zip: not found"),
        (
            "  learning_rate: 0.01",
            "  learning_rate: fast",
            "error: params.yaml: train.learning_rate = 'fast'",
        ),
        ("  epochs: 2", "  epoch: 2", "did you mean epochs?"),
        ("  select_on: public", "  select_on: validation", "set train.select_on: public"),
    ):
        before = repository.change({old: new})
        done = repository.run("dvc repro")
        (repository.path / "params.yaml").write_text(before)
        output = done.stdout + done.stderr
        assert done.returncode != 0, new
        assert message in output
        assert "Traceback" not in output
        assert (repository.path / "dvc.lock").read_text() == lock
        assert not list(repository.path.rglob("*.part"))
    repository("dvc checkout -q --allow-missing")
    assert repository("dvc status -q && git status --porcelain") == ""


def test_the_summary_names_the_dataset_and_compares_with_the_pinned_lock(repository):
    summary = repository("python -m ferlab show")
    assert "on custom-" in summary
    assert "Reproduced to the last bit: private" in summary
    assert "changed since" not in summary
    parameters = repository.change({"model: small": "model: resnet"}, "params.yaml")
    said = repository("python -m ferlab show")
    assert "small network" in said and "params.yaml has changed since: train.model resnet;" in said
    (repository.path / "params.yaml").write_text(parameters)
    before = repository.change({"epochs: 2": "epochs: 3"}, "dvc.lock")
    assert "pinned one: train.epochs 2 -> 3." in repository("python -m ferlab show")
    (repository.path / "dvc.lock").write_text(before)
