"""A group's record: two clones with their own homes, a Git server, S3, MLflow on PostgreSQL."""

import re
import shutil
import subprocess
import sys

import pytest

from tests import servers
from tests.repository import Repository

pytestmark = pytest.mark.slow
SECRET = "not-to-be-seen-0815"


class Clone(Repository):
    """A repository cloned from the group's Git server, with a home of its own."""

    def __init__(self, path, origin, variables):
        self._open(path)
        self.environment |= variables
        subprocess.run(["git", "clone", "-q", origin, path], check=True, env=self.environment)


@pytest.fixture(scope="module")
def group(finished, tmp_path_factory):
    """(first clone, second clone, MLflow's server); the first committed the data to DVC."""
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
        variables = keys | {
            "MLFLOW_TRACKING_URI": server.address,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",
        }
        first = Repository.copy(finished, folder / "first/repository")
        first.environment |= variables
        first("dvc remote add -d group s3://data/dvc")
        first(f"dvc remote modify group endpointurl {store}")
        first("sed -i '/data.zip/d' .gitignore && dvc add -q data.zip")
        first("git add -A && git commit -qm remote")
        first(f"git remote add origin {folder}/origin.git && git push -q -u origin main")
        first("dvc push -q")
        second = Clone(folder / "second/repository", folder / "origin.git", variables)
        yield first, second, server
        server.kill()


def test_the_second_clone_finds_the_first_ones_work_and_adds_its_own(group):
    first, second, server = group
    output = first("dvc exp run --name early -S train.seed=1")
    assert "train" in first.stages_run(output) and "warning" not in output
    first("dvc push && dvc exp push origin early")

    second("dvc pull data.zip.dvc && dvc exp pull origin early && dvc exp apply early")
    assert second.stages_run(second("dvc pull --allow-missing; dvc repro")) == []
    for file in ("dvc.lock", "models/model.keras", "reports/metrics.json", "reports/report.html"):
        assert (second.path / file).read_bytes() == (first.path / file).read_bytes(), file
    second("git stash -q -u || true; git checkout -q .")
    second("dvc exp run --name late -S train.seed=2")
    second("dvc push && dvc exp push origin late")
    first("dvc exp pull origin late")

    for clone in (first, second):
        clone("python -m ferlab sync")
        compared = clone("python -m ferlab compare early late")
        assert re.search(r"train\.seed\s+1\s+2", compared)
        assert "McNemar" in compared
        assert not (clone.path / "mlflow.db").exists()
    import mlflow

    mlflow.set_tracking_uri(server.address)
    client = mlflow.MlflowClient()
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert sorted(run.info.run_name for run in runs) == ["early", "late"]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
        assert {"report.html", "figures", "predictions.csv.gz"} <= {
            artifact.path for artifact in client.list_artifacts(run.info.run_id)
        }


def test_no_secret_is_in_a_commit_a_log_or_a_run(group):
    first, second, server = group
    for clone in (first, second):
        written = clone(
            "git log --all -p && cat .dvc/config && find .dvc/tmp .ferlab -type f | xargs cat -v"
        )
        assert SECRET not in written
    import mlflow

    mlflow.set_tracking_uri(server.address)
    client = mlflow.MlflowClient()
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        assert SECRET not in str(run.to_dictionary())
    assert SECRET not in (server.folder / "log").read_text()


@pytest.mark.parametrize("target", ["pull", "repro", "reset"])
def test_make_stops_at_a_list_in_the_cache_that_leads_out_of_its_folder(finished, tmp_path, target):
    """A list that a hostile remote might have sent: found before DVC follows it."""
    repository = Repository.copy(finished, tmp_path / "repository")
    (repository.path / ".venv").symlink_to(sys.prefix)
    repository("dvc remote add -d r ../remote && dvc push -q")
    repository("git add -A && git commit -qm remote")
    cache, remote = repository.path / ".dvc/cache", repository.path.parent / "remote"
    if target == "pull":  # which would mend the cache from a good remote
        shutil.rmtree(cache)
    kept = remote if target == "pull" else cache
    (listed,) = (path for path in kept.rglob("*.dir") if "model_card.md" in path.read_text())
    listed.chmod(0o644)
    listed.write_text(listed.read_text().replace("model_card.md", "../../../outside"))
    shutil.rmtree(repository.path / "reports/explain")
    done = repository.run(f"make -o .venv/core {target}")
    assert done.returncode != 0
    name = listed.relative_to(kept)
    assert f"error: {cache / name}: DVC's list of a folder" in done.stderr, done.stderr
    assert not list(tmp_path.rglob("outside*"))
    assert not (repository.path / "reports/explain").exists()


def test_doctor_says_what_is_not_there(group):
    first, *_ = group

    def doctor(**variables):
        # seconds; with room for a machine that takes half a minute to start Python and MLflow
        return first.run("timeout 60 python -m ferlab doctor", **variables).stdout

    gone = f"http://127.0.0.1:{servers.free_port()}"
    first(f"dvc remote modify --local group endpointurl {gone}")
    output = doctor(MLFLOW_TRACKING_URI=gone)
    assert f"MLFLOW_TRACKING_URI={gone}: nobody answers" in output
    assert f"DVC's remote group: nobody answers at {gone}" in output
    first("dvc remote modify --local --unset group endpointurl")
    assert "no credentials" in doctor(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
