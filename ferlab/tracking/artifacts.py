"""Files of MLflow runs: reports, the dataset's digest, the model with its signature; and back."""

import dataclasses
import importlib.metadata
import re
import shutil
import tempfile
from pathlib import Path

from ferlab import files, params
from ferlab.tracking import results, search, store

FALLBACK = "model"  # folder of a run's files: its `.keras` file, where MLflow keeps no model


def log_files(run_id, paths, details, model=None):
    """Log files and folders, the dataset with its digest, and the model where there is one.

    paths: of files and folders. details: the content of details.json. model: path of a `.keras`
    file in a folder laid out as the workspace. Returns what scores are to name, so that MLflow
    shows them with the model and the dataset: {} where it keeps no model.
    """
    import mlflow

    client = mlflow.MlflowClient()
    _drop_half_copied(client.get_run(run_id))
    for path in paths:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
    with mlflow.start_run(run_id=run_id):
        data = _log_dataset(details["dataset"], details["digest"])
        run = client.get_run(run_id)
        if model and not _model_of(client, run):
            try:
                _drop_half_logged(client, run)
                _log_model(model, run.info.run_name)
            # of another backend than the one that runs in this process; or the server is of
            # before MLflow 3, and keeps no models
            except (files.UserError, mlflow.MlflowException):
                client.log_artifact(run_id, str(model), FALLBACK)
    of_data = {"dataset_name": data.name, "dataset_digest": data.digest}
    id = _model_of(client, client.get_run(run_id))
    return {"model_id": id} | of_data if id else {}


def log_once(client, run, folder):
    """Log a folder of files to an MLflow run, unless it was logged whole before.

    The tag comes last: files alone are also there where a kill left only some of them.
    """
    tag = f"ferlab.{folder.name}"
    if tag not in run.data.tags:
        _drop_half_copied(run)
        client.log_artifacts(run.info.run_id, str(folder), folder.name)
        client.set_tag(run.info.run_id, tag, "true")


def _drop_half_copied(run):
    """MLflow copies a file beside its place, then renames it: a kill in between leaves the copy."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(run.info.artifact_uri):
        for left in Path(local_file_uri_to_path(run.info.artifact_uri)).rglob(
            ".artifact.uploading.*"
        ):
            left.unlink(missing_ok=True)


def _model_of(client, run):
    """The id of the whole model that an MLflow run has, or None."""
    if not run.outputs or not run.outputs.model_outputs:  # a server of before MLflow 3 has none
        return None
    return next((model.model_id for model in _models(client, run) if _is_whole(model)), None)


def _models(client, run):
    of_run = f"source_run_id = '{run.info.run_id}'"
    return client.search_logged_models([run.info.experiment_id], of_run)


def _is_whole(model):
    """MLflow enters a model, then writes its files: a kill in between leaves it pending."""
    return model.status == "READY"


def _drop_half_logged(client, run):
    for model in _models(client, run):
        if not _is_whole(model):
            client.delete_logged_model(model.model_id)


def log_page(names, page):
    """Add a page that compares several results to their MLflow runs.

    names: as in ferlab.tracking.lookup.
    """
    with store.store() as client:
        for name in names:
            if name == results.WORKSPACE:
                runs = search.of_key(client, results.key_in(Path()))
            else:
                runs = search.named(client, name)
            for run in runs:
                client.log_artifact(run.info.run_id, str(page), "compare")


def files_of(run):
    """The files of an MLflow run, as an object with list_artifacts and download_artifacts.

    The client's own functions of these names also ask for models, which older servers lack.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.info.artifact_uri)


def fetch_model(name, path):
    """Copy the model of an MLflow run, named by its name or id, to `path`.

    Returns False where there is no such run with a model.
    """
    import mlflow

    with store.store() as client, tempfile.TemporaryDirectory() as temporary:
        for run in search.named(client, name):
            if id := _model_of(client, run):
                folder = mlflow.artifacts.download_artifacts(f"models:/{id}", dst_path=temporary)
            elif files_of(run).list_artifacts(FALLBACK):
                folder = files_of(run).download_artifacts(FALLBACK, temporary)
            else:
                continue
            for model in Path(folder).rglob("*.keras"):
                shutil.copy(model, path)
                return True
    return False


def _log_dataset(name, digest):
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = CodeDatasetSource({"ferlab.dataset": name})
    data = MetaDataset(source, name=name, digest=digest[:32])
    try:
        mlflow.log_input(data, context="training")
    except mlflow.MlflowException:  # another writer entered the same dataset in between
        mlflow.log_input(data, context="training")  # now it is there
    return data


def _log_model(path, name):
    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from ferlab.evaluation.network.about import read_about
    from ferlab.training import backend

    settings = params.raw(path.parent.parent / "params.yaml")["train"]
    keras = backend.start(settings["backend"], settings["precision"])
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, 48, 48, 1))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, model.output_shape[-1]))])
    # the very file, with what it says of its use
    model.save = lambda target, **_: shutil.copyfile(path, target)
    packages = ("keras", settings["backend"], "numpy")
    # a bare Keras network cannot equalise faces: who loads it reads in `about` whether to
    about = dataclasses.asdict(read_about(path))
    mlflow.keras.log_model(
        model,
        name=re.sub(r"[/:.%\"']", "-", name),  # MLflow refuses these
        signature=ModelSignature(inputs, outputs),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in packages],
        metadata={"ferlab": about},
    )
