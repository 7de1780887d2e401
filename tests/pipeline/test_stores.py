"""MLflow's store: it moves with its folder, and what it cannot be is told in one line."""

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ferlab import dvc_files, files, recipes
from ferlab.doctor import services
from ferlab.files import UserError
from ferlab.serving import model_lookup
from ferlab.tracking import artifacts, lookup, results, runs, search, store, sync, ui
from tests.repository import TOP


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty database of MLflow's, whose making takes seconds."""
    import mlflow

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def enter(tmp_path, monkeypatch, empty):
    """A function that makes a folder the working directory.

    A new one gets a store of its own, unless an address is given.
    """
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def change(name, address=""):
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            if not address:
                shutil.copy(empty, folder / "mlflow.db")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)  # MLflow sets it in this process
        return folder

    return change


def content(folder):
    """{file: its bytes} of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def logged(text):
    """The id of a new run, with a file, in ferlab's experiment and in one of the user's own."""
    Path("note").write_text(text)
    with store.store() as client:
        own = client.get_experiment_by_name("own")
        own = own.experiment_id if own else client.create_experiment("own")
        run = client.create_run(search.experiment_of(client, "sample"), run_name=text)
        for experiment in (run, client.create_run(own)):
            client.log_artifact(experiment.info.run_id, "note")
        client.set_tag(run.info.run_id, "ferlab.complete", "true")
        return run.info.run_id


@pytest.mark.parametrize("copied", [True, False])
def test_a_copied_or_renamed_folder_neither_writes_into_nor_reads_from_the_old_one(
    enter, tmp_path, copied
):
    old = enter("old place")
    first = logged("first")
    new = tmp_path / "neu/plätze"
    (shutil.copytree if copied else shutil.move)(old, new)
    before = content(old)
    enter("neu/plätze")
    second = logged("second")
    assert content(old) == before
    shutil.rmtree(old, ignore_errors=True)
    with store.store() as client:
        for run_id, text in ((first, "first"), (second, "second")):
            got = client.download_artifacts(run_id, "note", str(tmp_path))
            assert Path(got).read_text() == text
    with sqlite3.connect("mlflow.db") as database:
        for table, columns in store.PLACES.items():
            for column in columns:
                places = [place for (place,) in database.execute(f"SELECT {column} FROM {table}")]
                assert not [place for place in places if "/old" in str(place)], table


def test_a_moved_database_of_an_older_mlflow_is_pointed_at_its_files_before_it_is_opened(tmp_path):
    """It has no table of models yet; MLflow adds it when it opens the file, but moves nothing."""
    (tmp_path / "mlartifacts").mkdir()
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (name, artifact_location)")
        database.execute(
            "INSERT INTO experiments VALUES ('ferlab-x', 'file:///gone/mlartifacts/ferlab-x')"
        )
    store._check(tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        ((place,),) = database.execute("SELECT artifact_location FROM experiments")
    assert place == f"{tmp_path.as_uri()}/mlartifacts/ferlab-x"


def test_a_folder_moved_into_one_of_its_old_place_is_found_at_the_first_opening(tmp_path):
    """Its new place begins with the old one, so that a second rewriting would add to it."""
    new = tmp_path / "lab"
    (new / "mlartifacts").mkdir(parents=True)
    with sqlite3.connect(new / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (name, artifact_location)")
        for name in ("ferlab-x", "ferlab-y", "ferlab-z"):
            place = f"{tmp_path.as_uri()}/mlartifacts/{name}"
            database.execute("INSERT INTO experiments VALUES (?, ?)", (name, place))
    store._check(new / "mlflow.db")
    with sqlite3.connect(new / "mlflow.db") as database:
        places = [
            place for (place,) in database.execute("SELECT artifact_location FROM experiments")
        ]
    assert places == [f"{new.as_uri()}/mlartifacts/ferlab-{name}" for name in "xyz"]


def test_the_files_of_a_named_database_lie_beside_it(enter, tmp_path, empty):
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copy(empty, shared / "runs.db")
    for name in ("one", "two"):
        folder = enter(name, f"sqlite:///{shared}/runs.db")
        logged(name)
        assert not (folder / "mlartifacts").exists()
    assert len(list((shared / "mlartifacts").rglob("note"))) == 2
    folder = enter("three", "sqlite:///three.db")  # relative: to the repository
    shutil.copy(empty, "three.db")
    logged("three")
    assert list((folder / "mlartifacts").rglob("note"))


@pytest.mark.parametrize(
    ("address", "what", "fix"),
    [
        ("./mlruns", "MLflow keeps no runs in folders", "unset MLFLOW_TRACKING_URI .*migrate-file"),
        ("file:///x/mlruns", "keeps no runs in folders", "--source /x/mlruns --target sqlite"),
        ("databricks", "no store of ferlab's", "unset MLFLOW_TRACKING_URI"),
        ("databricks://me", "no store of ferlab's", "unset MLFLOW_TRACKING_URI"),
        ("htpp://x", "no store of ferlab's", "unset MLFLOW_TRACKING_URI"),
        (
            "postgresql://me@h/x",
            "psycopg is not installed",
            "begin with postgresql.psycopg2:// and pip install .*-scale.txt$",
        ),
        ("postgresql+psycopg2://me@127.0.0.1:9/x", "nobody answers", "start the server"),
        ("http://127.0.0.1:9", "nobody answers", "start the server"),
        ("http://127.0.0.1:abc", "nobody answers", "start the server"),
    ],
)
def test_what_cannot_be_a_store_is_one_line_in_sync_and_doctor(enter, address, what, fix):
    folder = enter("here", address)
    with pytest.raises(UserError) as caught:
        sync.sync()
    assert "\n" not in str(caught.value)
    enter("here", address)
    ((found, command),) = services.tracking()
    assert address in found and what in found
    assert re.search(fix, command)
    assert not (folder / "mlruns").exists() and not (folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("version", "what", "fix"),
    [
        ("c4fca6d3f9ab", "written by a newer MLflow", "mv {0} {0}.old && python -m ferlab sync"),
        ("acf3f17fdcc7", "written by an older MLflow", "mlflow db upgrade sqlite:///{0}"),
    ],
)
def test_a_store_of_another_version_is_one_line_with_the_command(enter, version, what, fix):
    file = enter("here") / "mlflow.db"
    logged("run")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
    forget()
    ((found, command),) = services.tracking()
    assert str(file) in found and what in found
    assert command.startswith(fix.format(file))
    with pytest.raises(UserError, match=what):
        lookup.find("0123")


def forget():
    """Let MLflow open its stores anew, as another process would."""
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()


@pytest.mark.slow
def test_a_deleted_experiment_is_one_line_whose_command_brings_it_back(enter):
    enter("here")
    run_id = logged("run")
    with store.store() as client:
        client.delete_experiment(search.experiment_of(client, "sample"))
    with pytest.raises(UserError, match="ferlab-sample was deleted"):
        logged("another")
    ((what, fix),) = services.tracking()
    assert "ferlab-sample was deleted" in what
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    subprocess.run(f"{path} {fix}", shell=True, check=True, capture_output=True)
    assert list(services.tracking()) == []
    with store.store() as client:
        assert [run.info.run_id for run in search.named(client, "run")] == [run_id]
    logged("another")


def finished(folder):
    """Write the files by which a finished result in `folder` is known."""
    shutil.copy(TOP / "params.yaml", folder / "params.yaml")
    for name in results.RESULT:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)


def without_models(monkeypatch):
    """Let MLflow's client meet a server of before version 3."""
    import mlflow

    def refuse(*_, **__):
        raise mlflow.MlflowException("API request to .../logged-models failed with error code 404")

    monkeypatch.setattr(artifacts, "_log_model", refuse)
    monkeypatch.setattr(mlflow.MlflowClient, "search_logged_models", refuse)


def test_a_server_without_logged_models_shows_a_finished_result_as_finished_and_has_its_model(
    enter, monkeypatch, tmp_path
):
    folder = enter("here")
    finished(folder)
    without_models(monkeypatch)
    with store.store() as client:
        run = client.create_run(search.experiment_of(client, "sample"), run_name="mine")
        model = folder / "models/model.keras"
        artifacts.log_files(run.info.run_id, [], {"dataset": "sample", "digest": "0" * 32}, model)
        client.set_tag(run.info.run_id, "ferlab.complete", "true")
        assert client.get_run(run.info.run_id).info.status == "FINISHED"
    for name in ("mine", run.info.run_id):
        assert artifacts.fetch_model(name, tmp_path / "fetched.keras")
        assert (tmp_path / "fetched.keras").read_text() == "models/model.keras"
        (tmp_path / "fetched.keras").unlink()
    ((what, fix),) = services.tracking()
    assert "keeps no models" in what and "mlflow>=3" in fix


class Killed(BaseException):
    """As a SIGKILL: what handles exceptions does not see it."""


def test_a_model_that_a_kill_left_half_logged_is_logged_again(enter, monkeypatch, tmp_path):
    """MLflow enters a model, says that it is the run's, and only then copies its files."""
    from mlflow.entities import LoggedModelOutput

    folder, killed = enter("here"), []
    finished(folder)
    model = folder / "models/model.keras"

    def log_model(path, name):
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment, name=name, source_run_id=run_id)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        if not killed:
            killed.append(logged.model_id)
            raise Killed
        client.log_model_artifacts(logged.model_id, str(path.parent))
        client.finalize_logged_model(logged.model_id, "READY")

    monkeypatch.setattr(artifacts, "_log_model", log_model)
    about = [], {"dataset": "sample", "digest": "0" * 32}, model
    with store.store() as client:
        run_id = client.create_run(search.experiment_of(client, "sample"), run_name="m").info.run_id
        with pytest.raises(Killed):
            artifacts.log_files(run_id, *about)
        scored = artifacts.log_files(run_id, *about)["model_id"]
        assert scored != killed[0]
        assert artifacts.log_files(run_id, *about)["model_id"] == scored
        experiment = client.get_run(run_id).info.experiment_id
        listed = client.search_logged_models([experiment])
        assert [found.model_id for found in listed] == [scored]
        client.set_tag(run_id, "ferlab.complete", "true")
    assert artifacts.fetch_model("m", tmp_path / "fetched.keras")
    assert (tmp_path / "fetched.keras").read_text() == "models/model.keras"


def test_a_folder_that_a_kill_left_half_logged_is_logged_again(enter, monkeypatch):
    folder = enter("here")
    finished(folder)
    explained = folder / "reports/explain"
    explained.mkdir()
    md5 = files.md5(folder / "models/model.keras")
    files.write_json(explained / "calibration.json", {"model_md5": md5})
    (explained / "explain.html").write_text("page")
    key = results.key_in(folder)
    with store.store() as client:
        experiment = search.experiment_of(client, "sample")
        run = client.create_run(experiment, run_name=f"repro-{key[:8]}", tags={"ferlab.key": key})
        # as MLflow copies file by file
        client.log_artifact(run.info.run_id, str(explained / "calibration.json"), "explain")
        [copied] = Path(client.download_artifacts(run.info.run_id, "explain")).rglob("*.json")
        (copied.parent / ".artifact.uploading.abcd").write_text("half")  # and under such a name
    runs.project_explained(folder)
    with store.store() as client:
        listed = client.list_artifacts(run.info.run_id, "explain")
    assert {Path(file.path).name for file in listed} == {"calibration.json", "explain.html"}
    (explained / "later").write_text("nothing is logged twice")
    runs.project_explained(folder)
    with store.store() as client:
        assert len(client.list_artifacts(run.info.run_id, "explain")) == 2


def test_a_run_that_a_kill_left_bare_is_taken_up_and_until_then_shown_as_dead(enter, monkeypatch):
    import mlflow

    folder = enter("here")
    ignored = shutil.ignore_patterns("results", "runs")
    shutil.copytree(TOP / "recipes", folder / "recipes", ignore=ignored)
    shutil.copytree(TOP / "recipes/results/majority", folder / "recipes/results/majority")
    with monkeypatch.context() as patched:

        def killed(*_, **__):
            raise Killed

        patched.setattr(mlflow.MlflowClient, "log_batch", killed)
        with pytest.raises(Killed):
            runs.project_recipe("majority")
    monkeypatch.setattr(store, "is_alive", lambda tags: False)
    assert [what for what, _ in services.tracking()] == [
        "MLflow shows 1 run as running that no process is at any more (majority)"
    ]
    left = folder / "recipes/results/majority/.run.json.4194305.part"  # by a killed evaluation
    left.write_text("{")
    run_id = runs.project_recipe("majority")
    with store.store() as client:
        experiments = [found.experiment_id for found in client.search_experiments()]
        (run,) = client.search_runs(experiments)
        assert left.name not in [file.path for file in client.list_artifacts(run_id)]
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")


def test_a_comparison_reaches_the_workspace_s_run(enter):
    folder = enter("here")
    finished(folder)
    key = results.key_in(folder)
    with store.store() as client:
        run = client.create_run(search.experiment_of(client, "sample"), run_name="repro-12345678")
        for tag, value in (("ferlab.key", key), ("ferlab.complete", "true")):
            client.set_tag(run.info.run_id, tag, value)
    (folder / "compare.html").write_text("page")
    artifacts.log_page(["workspace"], folder / "compare.html")
    with store.store() as client:
        listed = client.list_artifacts(run.info.run_id, "compare")
    assert [file.path for file in listed] == ["compare/compare.html"]


def test_names_with_quotes_are_found(enter):
    enter("here")
    for name in ("it's", 'the "best"'):
        run_id = logged(name)
        with store.store() as client:
            assert [run.info.run_id for run in search.named(client, name)] == [run_id]
    with store.store() as client, pytest.raises(UserError, match="both kinds of quotes"):
        search.named(client, 'it\'s "it"')


def test_a_name_means_the_same_result_for_compare_and_for_the_model(monkeypatch):
    """A DVC experiment may be called like a recipe's key."""
    found = []
    monkeypatch.setattr(recipes, "with_result", lambda: ["vgg"])
    monkeypatch.setattr(dvc_files, "experiments", lambda: [("vgg", "1" * 40, "2" * 40)])
    monkeypatch.setattr(lookup, "_recipe", lambda key: found.append("recipe"))
    monkeypatch.setattr(lookup, "experiment", lambda *_: found.append("experiment"))
    monkeypatch.setattr(
        dvc_files,
        "fetch",
        lambda name, sources, folder=None, revision=None, fix="": found.append(
            "experiment" if revision else "recipe"
        ),
    )
    monkeypatch.setattr(model_lookup, "_cost", lambda key: "minutes")
    monkeypatch.chdir(TOP)
    lookup.find("vgg")
    model_lookup.fetch("vgg", Path("model.keras"))
    assert found == ["recipe", "recipe"]


def test_an_experiment_is_compared_without_its_model(monkeypatch, tmp_path):
    """Only the md5 of the model is needed, which dvc.lock has: 5 MB for every name."""
    monkeypatch.chdir(tmp_path)
    wanted = []
    lock = {"stages": {"train": {"outs": [{"path": lookup.MODEL, "md5": "5" * 32}]}}}
    monkeypatch.setattr(dvc_files, "show", lambda *_: str(lock))
    monkeypatch.setattr(dvc_files, "fetch", lambda name, sources, **_: wanted.extend(sources))
    monkeypatch.setattr(lookup, "workspace", lambda folder, name, model: (name, model))
    monkeypatch.setattr(dvc_files, "experiments", lambda: [("mine", "1" * 40, "2" * 40)])
    assert lookup.find("mine") == ("mine", "5" * 32)
    assert lookup.MODEL not in wanted and lookup.HISTORY in wanted


def test_a_recipe_s_run_is_compared_by_its_id(enter):
    """With the parameters that are pinned, in a folder that was moved since."""
    folder = enter("here")
    ignored = shutil.ignore_patterns("results", "runs")
    shutil.copytree(TOP / "recipes", folder / "recipes", ignore=ignored)
    shutil.copytree(TOP / "recipes/results/majority", folder / "recipes/results/majority")
    run_id = runs.project_recipe("majority")
    shutil.move(folder, folder.with_name("there"))
    enter("there")
    shutil.rmtree(Path("recipes/results"))
    found = lookup.find(run_id)
    assert found.name == "majority" and found.values["baseline"]["kind"] == "majority"
    assert len(found.predictions) == 7178


def test_what_the_server_of_the_files_raises_is_one_line(enter):
    import requests

    enter("here")
    said = r"^MLflow does not answer \(500 .*; python -m ferlab"
    with pytest.raises(UserError, match=said), store.store():
        raise requests.HTTPError("500 Server Error for url http://files")
    with pytest.raises(UserError, match="nobody answers"):
        enter("there", "http://127.0.0.1:9")
        ui.serve(0)
