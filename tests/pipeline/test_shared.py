"""A group's record: two clones with homes of their own, one Git server, one S3 store, one MLflow on PostgreSQL."""

import re
import subprocess

import pytest

from tests import servers
from tests.repository import Repository

pytestmark = pytest.mark.slow
SECRET = "not-to-be-seen-0815"


class Clone(Repository):
    """A repository cloned from the group's Git server, with a home of its own."""

    def __init__(self, path, origin, environment):
        home = path.parent / "home"
        home.mkdir(parents=True)
        self.path, self.environment = path, environment | {"HOME": str(home)}
        subprocess.run(["git", "clone", "-q", origin, path], check=True, env=self.environment)


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """(first clone, second clone, MLflow's address, S3's address); the data were committed to DVC by the first."""
    folder = tmp_path_factory.mktemp("group")
    keys = {
        "AWS_ACCESS_KEY_ID": "ferlab",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with servers.s3(folder, "data", "runs") as store, servers.postgresql() as database:
        server = servers.Server(database, folder, "s3://runs", MLFLOW_S3_ENDPOINT_URL=store, **keys)
        subprocess.run(
            ["git", "init", "-q", "--bare", "-b", "main", folder / "origin.git"], check=True
        )
        first = Repository(folder / "first/repository")
        first.environment |= keys | {
            "MLFLOW_TRACKING_URI": server.address,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",
        }
        first("dvc remote add -d group s3://data/dvc")
        first(f"dvc remote modify group endpointurl {store}")
        first(
            "sed -i '/data.zip/d' .gitignore && dvc add -q data.zip && git add -A && git commit -qm remote"
        )
        first(
            f"git remote add origin {folder}/origin.git && git push -q -u origin main && dvc push -q"
        )
        second = Clone(folder / "second/repository", folder / "origin.git", first.environment)
        yield first, second, server, store
        server.kill()


def test_the_second_clone_finds_the_first_ones_work_and_adds_its_own(group):
    first, second, server, _ = group
    first("dvc exp run --name early")
    first("dvc push && dvc exp push origin early")

    second("dvc pull data.zip.dvc && dvc exp pull origin early && dvc exp apply early")
    said = second("dvc pull --allow-missing; dvc repro")
    assert second.stages_run(said) == []
    for file in ("dvc.lock", "models/model.keras", "reports/metrics.json", "reports/report.html"):
        assert (second.path / file).read_bytes() == (first.path / file).read_bytes(), file
    second("git stash -q -u || true; git checkout -q .")
    second("dvc exp run --name late -S train.seed=1")
    second("dvc push && dvc exp push origin late")
    first("dvc exp pull origin late")

    for clone in (first, second):
        clone("python -m ferlab sync")
        compared = clone("python -m ferlab compare early late")
        assert re.search(r"train\.seed\s+0\s+1", compared)
        assert "McNemar" in compared
    import mlflow

    mlflow.set_tracking_uri(server.address)
    client = mlflow.MlflowClient()
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert sorted(run.info.run_name for run in runs) == ["early", "late"]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
        assert {"report.html", "figures", "predictions.csv.gz"} <= {
            one.path for one in client.list_artifacts(run.info.run_id)
        }


def test_no_secret_is_in_a_commit_a_log_or_a_run(group):
    first, second, server, _ = group
    for clone in (first, second):
        everything = clone(
            "git log --all -p && cat .dvc/config && find .dvc/tmp .ferlab -type f | xargs cat",
        )
        assert SECRET not in everything
    import mlflow

    mlflow.set_tracking_uri(server.address)
    client = mlflow.MlflowClient()
    for run in client.search_runs([one.experiment_id for one in client.search_experiments()]):
        assert SECRET not in str(run.to_dictionary())
    assert SECRET not in (server.folder / "log").read_text()


def test_what_is_not_there_is_told_by_doctor_at_once(group):
    first, *_ = group
    gone = f"http://127.0.0.1:{servers.free_port()}"
    said = first.run("timeout 10 python -m ferlab doctor", MLFLOW_TRACKING_URI=gone).stdout
    assert f"MLFLOW_TRACKING_URI={gone}: nobody answers" in said
    first(f"dvc remote modify --local group endpointurl {gone}")
    said = first.run("timeout 10 python -m ferlab doctor").stdout
    assert f"DVC's remote group: nobody answers at {gone}" in said
    first("dvc remote modify --local --unset group endpointurl")
    said = first.run(
        "timeout 10 python -m ferlab doctor", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""
    ).stdout
    assert "no credentials" in said
