"""The pipeline in a temporary repository: what runs, what it leaves, what dvc.yaml declares."""

import ast
import json
import re
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML

from ferlab import params
from ferlab.evaluation import tables
from ferlab.tracking import writing
from tests.repository import TOP, Repository

ORDER = ["download", "eda", "balance", "train", "predict", "evaluate", "explain"]
# Modules (or packages) that a stage may import undeclared, since they cannot change an output:
EXEMPT = {
    "ferlab.cli": "how errors are shown",
    "ferlab.dvc_files": "reads dvc.lock, to check the hash of a model",
    "ferlab.params": "checks values; the values themselves are declared as params",
    "ferlab.params_errors": "the words in which a wrong parameter is told",
    "ferlab.progress": "what is shown while training",
    "ferlab.secrets": "how addresses are shown",
    "ferlab.recipes": "names of the recipes and where their results lie",
    "ferlab.scaling": "sends the same training elsewhere, and only with FERLAB_RAY",
    "ferlab.tracking": "projects finished files into MLflow; writes no output",
    "ferlab.training.callbacks": "what is reported of a training",
    "ferlab.training.fingerprint": "names the state that a training resumes from",
}


# What evaluate loads only to give MLflow a copy of the model, with its signature.
FOR_MLFLOW = (
    "ferlab.data.prepare",
    "ferlab.evaluation.network.about",
    "ferlab.training.backend",
)


# What evaluate loads only for the workspace's report.
REPORT = (
    "ferlab.reporting",
    "ferlab.data.augment",
    "ferlab.evaluation.calibration",
    "ferlab.evaluation.mistakes",
    "ferlab.evaluation.robustness",
)


def is_exempt(module):
    """Exempt itself or by its package, or a package that holds nothing but its docstring."""
    parents = {module.rsplit(".", n)[0] for n in range(module.count(".") + 1)}
    package = TOP / module.replace(".", "/") / "__init__.py"
    bare = package.exists() and len(ast.parse(package.read_text()).body) <= 1
    return bare or module == "ferlab" or bool(parents & set(EXEMPT))


def is_declared(module, deps):
    """Whether a ferlab module is among the dependencies, itself or by a folder above it."""
    file = module.replace(".", "/")
    folders = {file.rsplit("/", n)[0] for n in range(1, file.count("/") + 1)}
    return bool({f"{file}.py", f"{file}/__init__.py", file, *folders} & deps)


@pytest.fixture(scope="module")
def repository(finished):
    """The finished repository itself: these tests leave it as it is."""
    return Repository.existing(finished)


@pytest.fixture(scope="module")
def declared():
    return YAML(typ="safe").load((TOP / "dvc.yaml").read_text())["stages"]


def test_the_stages_run_in_their_order_and_leave_every_declared_file(repository, declared):
    assert repository.stages_run((repository.path.parent / "first.txt").read_text()) == ORDER
    for stage in declared.values():
        for out in stage.get("outs", []):
            assert (repository.path / out).exists(), out
    metrics = json.loads((repository.path / "reports/metrics.json").read_text())
    assert 10 <= len(metrics) <= 15
    assert all(isinstance(value, float) for value in metrics.values())
    assert json.loads((repository.path / "reports/details.json").read_text())["dataset"].startswith(
        "custom-"
    )


def test_nothing_is_left_over_and_nothing_runs_twice(repository):
    assert repository("git status --porcelain") == ""
    assert not list(repository.path.rglob("*.part"))
    assert not list((repository.path / ".ferlab/resume").glob("*/*"))
    assert repository.stages_run(repository("dvc repro")) == []


def test_dvc_shows_metrics_plots_and_experiments(repository):
    assert "private_accuracy" in repository("dvc metrics show")
    page = repository("dvc plots show -o ../shown && cat ../shown/index.html")
    assert all(name in page for name in ("Accuracy", "Loss", "Confusion"))
    table = repository("dvc exp show --csv")
    assert "train.epochs" in table
    assert "private_accuracy" in table


def test_the_mlflow_run_holds_everything(repository):
    runs = repository.runs()
    assert len(runs) == 1
    run, client = runs[0], repository.client()
    settings = params.load(repository.path / "params.yaml")
    details = json.loads((repository.path / "reports/details.json").read_text())
    metrics = json.loads((repository.path / "reports/metrics.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "2"
    assert len(run.data.params) == sum(
        len(section) for section in settings.model_dump(exclude={"explain"}).values()
    )
    final, classes = tables.final(details["splits"]), details["classes"]
    named = {writing.metric_name(name, final, classes): value for name, value in metrics.items()}
    assert {name: run.data.metrics[name] for name in named} == named
    assert [
        m.step for m in client.get_metric_history(run.info.run_id, "epoch/selection_accuracy")
    ] == [
        1,
        2,
    ]
    assert run.data.tags["ferlab.data_digest"] == details["digest"]
    assert run.data.tags["machine.cpu"]
    assert run.data.tags["mlflow.source.git.commit"]
    assert run.inputs.dataset_inputs[0].dataset.digest == details["digest"][:32]
    assert client.get_experiment(run.info.experiment_id).name.startswith("ferlab-custom-")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "details.json", "figures", "history.csv", "explain"} <= files
    assert any(
        "confusion" in file.path for file in client.list_artifacts(run.info.run_id, "figures")
    )
    model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert model.artifact_location.startswith((repository.path / "mlartifacts").as_uri())


def test_the_logged_model_has_a_signature_and_predicts_as_the_file_does(repository):
    import mlflow
    import numpy as np

    from ferlab.training import backend

    keras = backend.start("tensorflow")
    run, _ = repository.runs()[0], repository.client()
    logged = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    file = keras.models.load_model(repository.path / "models/model.keras", safe_mode=True)
    assert logged.metadata.signature.inputs.inputs[0].shape == (-1, 48, 48, 1)
    np.testing.assert_allclose(logged.predict(faces), file.predict(faces, verbose=0), atol=1e-6)


@pytest.mark.slow
def test_a_second_sync_adds_nothing_and_a_deleted_store_is_filled_again(repository):
    assert "1 result has" in repository("python -m ferlab sync")
    assert len(repository.runs()) == 1
    kept = repository.path.parent / "kept.db"
    (repository.path / "mlflow.db").rename(kept)
    repository("python -m ferlab sync")
    assert [run.info.status for run in repository.runs()] == ["FINISHED"]
    assert repository.runs()[0].data.tags["ferlab.complete"] == "true"
    kept.replace(repository.path / "mlflow.db")


def recipe_stages():
    """{name: stage} of the two DVC files of recipes/."""
    files = (TOP / "recipes/dvc.yaml", TOP / "recipes/explain/dvc.yaml")
    return {
        name: stage
        for file in files
        for name, stage in YAML(typ="safe").load(file.read_text())["stages"].items()
    }


@pytest.mark.parametrize("stage", ORDER)
def test_dvc_yaml_declares_every_module_and_parameter_a_stage_uses(repository, declared, stage):
    recorded = json.loads((repository.path.parent / f"{stage}.json").read_text())
    recipes = recipe_stages()[stage]
    for deps in (declared[stage]["deps"], recipes.get("do", recipes)["deps"]):
        deps = {
            re.sub(r"^(\.\./)*", "", dep)
            .replace("${train.model}", "small")
            .replace("${item.model}", "small")
            for dep in deps
        }
        assert f"stages/{stage}.py" in deps
        for module in recorded["modules"]:
            of_the_report = module.startswith(REPORT) and "ferlab/reporting/report.py" not in deps
            if stage == "evaluate" and (module in FOR_MLFLOW or of_the_report):
                continue
            assert is_exempt(module) or is_declared(module, deps), f"{stage} imports {module}"
    named = set(declared[stage]["params"])
    assert recorded["params"], "a stage reads its parameters"
    for name in recorded["params"]:
        assert {name, name.split(".")[0]} & named, f"{stage} reads {name}"
    if stage in ("download", "eda", "balance"):
        assert recorded["heavy"] == []


def test_every_exception_is_still_a_module():
    for name in EXEMPT:
        path = TOP / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), name


@pytest.mark.parametrize("before", ["true", "git init -q"], ids=["no repository", "no commit"])
def test_make_says_when_there_is_no_repository_or_no_commit_before_it_installs_anything(
    tmp_path, before
):
    shutil.copy(TOP / "Makefile", tmp_path)
    subprocess.run(before, shell=True, cwd=tmp_path, check=True)
    done = subprocess.run(["make", "repro"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "git init && git add -A && git commit" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_recipes_depend_on_the_same_parameters_as_the_workspace(declared):
    """On each of the recipe's own file, but for those that all recipes share; only the report of
    the workspace shows more.
    """
    stages = recipe_stages()
    shared = set(YAML(typ="safe").load((TOP / "recipes/params.yaml").read_text()))
    for stage in (name for name in declared if name != "evaluate"):
        found = stages[stage].get("do", stages[stage])["params"]
        found = [(file, name) for files in found for file, names in files.items() for name in names]
        assert {name for _, name in found} == set(declared[stage]["params"]), stage
        for file, name in found:
            file = file.removeprefix("../")  # of explain/dvc.yaml
            own = file in ("${key}.yaml", "${item.recipe}.yaml")
            assert own != (name in shared) and (own or file == "params.yaml"), (stage, file, name)
