"""MLflow as a projection of files: every call that records a run is here, and none of them can stop or slow a training.

A run's truth is what the stages wrote. `Live` shows epochs while they happen, as best effort; `project` makes or completes
the run of one finished result; `sync` does so for the workspace and every DVC experiment that lacks one.
The store is mlflow.db in the main repository, or MLFLOW_TRACKING_URI.
"""

import dataclasses
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import pandas as pd

from ferlab import files, params, recipes
from ferlab.tracking import dvc_files, provenance, store


def project(folder, name=None, baseline=None):
    """Make or complete the MLflow run of the finished result in `folder`; returns its id. Nothing is logged twice.

    name: the DVC experiment's, else DVC_EXP_NAME, else `repro-<key>`; the key is that of `result_key`. baseline: the commit that
    the experiment started from.
    """
    from ferlab.evaluation import tables

    settings, model = params.raw(folder / "params.yaml"), folder / "models/model.keras"
    reports = folder / "reports"
    key, name = _key_and_name(folder, name)
    tags = {"ferlab.model_md5": provenance.md5(model)} | (
        {} if name.startswith("repro-") else {"dvc.experiment": name}
    )
    listed = [
        reports / "report.html",
        reports / "details.json",
        reports / "metrics.json",
        folder / "models/history.csv",
        folder / "params.yaml",
        reports / "figures",
    ]
    predictions = tables.read(reports / "predictions.csv")
    with tempfile.TemporaryDirectory() as temporary:
        tables.write_packed(Path(temporary) / "predictions.csv.gz", predictions)  # what comparing needs, small
        listed.append(Path(temporary) / "predictions.csv.gz")
        return _project(
            key,
            name,
            settings,
            reports,
            folder / "models/history.csv",
            provenance.read_run(model),
            tags,
            listed,
            model,
            baseline,
        )


def _key_and_name(folder, name=None):
    reports = folder / "reports"
    key = dvc_files.result_key(
        params.raw(folder / "params.yaml"),
        *map(
            provenance.md5,
            (folder / "models/model.keras", reports / "details.json", reports / "metrics.json"),
        ),
    )
    return key, name or os.environ.get("DVC_EXP_NAME") or f"repro-{key[:8]}"


def project_explained(folder):
    """Add reports/explain to the run of the finished result in `folder`, once, where it explains this very model."""
    explained = folder / "reports/explain"
    about = explained / "calibration.json"
    if not about.exists() or files.read_json(about)["model_md5"] != provenance.md5(
        folder / "models/model.keras"
    ):
        return
    with store.store() as client:
        for run in with_key(client, *_key_and_name(folder)):
            if not client.list_artifacts(run.info.run_id, "explain"):
                client.log_artifacts(run.info.run_id, str(explained), "explain")


def project_recipe(key):
    """Make or complete the MLflow run of a recipe's committed result, named like its key; returns its id."""

    place = recipes.result_folder(key)
    recipe, seed = recipes.recipe_of(key)
    settings = recipes.raw_recipe(recipe, seed)
    run = files.read_json(place / "run.json") if (place / "run.json").exists() else {}
    listed = [file for file in sorted(place.iterdir()) if file.name != "run.json"]
    result = dvc_files.result_key(
        settings,
        *map(
            provenance.md5,
            (place / "predictions.csv.gz", place / "details.json", place / "metrics.json"),
        ),
    )
    return _project(
        result, key, settings, place, place / "history.csv", run, {"ferlab.recipe": recipe}, listed
    )


def _project(key, name, settings, reports, history, about, tags, listed, model=None, baseline=None):
    """One run from the files of one result: `reports` holds details.json and metrics.json, `about` is the run.json."""
    details, metrics = (
        files.read_json(reports / "details.json"),
        files.read_json(reports / "metrics.json"),
    )
    with store.store() as client:
        found = with_key(client, key, name)
        if any(run.data.tags.get("ferlab.complete") == "true" for run in found):
            return found[0].info.run_id
        run_id = (
            found[0].info.run_id
            if found
            else unfinished(client, about.get("training"), settings, name, "training")
        )
        run_id = run_id or create(client, details["dataset"], settings, name)
        _log_params(client, run_id, settings)
        client.update_run(run_id, name=name)
        tags = {
            "ferlab.key": key,
            "ferlab.dataset": details["dataset"],
            "ferlab.data_digest": details["digest"],
            "ferlab.parameters": details["model"]["parameters"],
            "mlflow.source.git.commit": baseline or about.get("commit") or provenance.commit(),
            **({"ferlab.training": about["training"]} if "training" in about else {}),
            **{f"machine.{k}": v for k, v in about.get("machine", {}).items()},
            **tags,
        }
        for tag, value in tags.items():
            client.set_tag(run_id, tag, str(value))
        if history.exists():
            _log_history(client, run_id, pd.read_csv(history))
        _log_final(client, run_id, metrics, details, about)
        _log_files(run_id, listed, details, model)
        client.set_tag(run_id, "ferlab.complete", "true")
        client.set_terminated(run_id, "FINISHED")
        return run_id


def log_page(names, page):
    """Add a page that compares several results to the MLflow runs that bear their names."""
    with store.store() as client:
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        for name in names:
            for run in client.search_runs(
                ids, f"attributes.run_name = '{name}' and tags.`ferlab.complete` = 'true'"
            ):
                client.log_artifact(run.info.run_id, str(page), "compare")


def fetch_model(name, path):
    """Copy the model of an MLflow run, named by its name or id, to `path`; False where there is no such run with a model."""
    import mlflow

    with store.store() as client, tempfile.TemporaryDirectory() as temporary:
        for run in named(client, name):
            outputs = run.outputs.model_outputs if run.outputs else []
            if outputs:
                folder = Path(
                    mlflow.artifacts.download_artifacts(
                        f"models:/{outputs[0].model_id}", dst_path=temporary
                    )
                )
                for found in folder.rglob("*.keras"):
                    shutil.copy(found, path)
                    return True
    return False


def named(client, name):
    """Complete runs of this name, or the run of this id. Raises UserError where the store does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        ids, quoted = (
            [experiment.experiment_id for experiment in client.search_experiments()],
            name.replace("'", ""),
        )
        runs = client.search_runs(
            ids, f"attributes.run_name = '{quoted}' and tags.`ferlab.complete` = 'true'"
        )
        return runs or client.search_runs(ids, f"attributes.run_id = '{quoted}'")
    except MlflowException as error:
        reason = " ".join(str(error).split())[:100]
        raise files.UserError(
            f"{name}: MLflow could not be asked ({reason}); python -m ferlab doctor"
        ) from None


def _experiment(client, dataset):
    """The MLflow experiment of a dataset; local artifacts lie in the main repository, never in a temporary workspace."""
    name = f"ferlab-{dataset.split()[0]}"
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = not os.environ.get("MLFLOW_TRACKING_URI", "sqlite").startswith("http")
    place = (files.root() / "mlartifacts" / name).as_uri() if local else None
    try:
        # the kind makes MLflow's page open on training runs instead of its language-model views
        return client.create_experiment(
            name,
            artifact_location=place,
            tags={"mlflow.experimentKind": "custom_model_development"},
        )
    except Exception:  # another writer made it in between
        return client.get_experiment_by_name(name).experiment_id


def create(client, dataset, settings, name, tags=None):
    run = client.create_run(
        _experiment(client, dataset),
        run_name=name,
        tags={"mlflow.source.name": "dvc repro", **(tags or {})},
    )
    _log_params(client, run.info.run_id, settings)
    return run.info.run_id


def _log_params(client, run_id, settings):
    """Again and again without harm: a run whose maker was killed in between gets the missing ones."""
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(key, value) for key, value in _flat(settings).items()])


def _flat(settings):
    return {
        f"{section}.{key}": str(value)
        for section, values in settings.items()
        for key, value in values.items()
    }


def with_key(client, key, name):
    """Runs with this key and name, the complete one first."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(
        ids, f"tags.`ferlab.key` = '{key}' and attributes.run_name = '{name}'"
    )
    return sorted(found, key=lambda run: run.data.tags.get("ferlab.complete") != "true")


def unfinished(client, training, settings, *names):
    """The run that a process of this host, now dead, began for this training under one of these names, or None.

    It may lack parameters, but has none other than these.
    """
    wanted, here = _flat(settings).items(), f"tags.`ferlab.host` = '{socket.gethostname()}'"
    for run in _of_training(client, training, f"{here} and attributes.status != 'FINISHED'"):
        if (
            run.info.run_name in names
            and "ferlab.key" not in run.data.tags
            and run.data.params.items() <= wanted
            and not store.is_alive(run.data.tags)
        ):
            return run.info.run_id
    return None


def is_complete(client, training, settings, name):
    """Whether the result of this training with these parameters has its run; outside an experiment that bears its key as name."""
    return any(
        run.data.params.items() == _flat(settings).items()
        and (
            run.info.run_name == name
            or name == "training"
            and run.info.run_name.startswith("repro-")
        )
        for run in _of_training(client, training, "tags.`ferlab.complete` = 'true'")
    )


def _of_training(client, training, condition):
    if not training:
        return []
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, f"tags.`ferlab.training` = '{training}' and {condition}")


def log_epoch(client, run_id, row):
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    values = {k: float(v) for k, v in row.items() if k not in ("epoch", "chosen")}
    client.log_batch(
        run_id, metrics=[Metric(k, v, now, int(row["epoch"])) for k, v in values.items()]
    )


def steps(client, run_id):
    """The epochs that the run already has."""
    return {metric.step for metric in client.get_metric_history(run_id, "selection_accuracy")}


def _log_history(client, run_id, history):
    there = steps(client, run_id)
    for row in history.to_dict("records"):
        if row["epoch"] not in there:
            log_epoch(client, run_id, row)


def _log_final(client, run_id, metrics, details, about):
    from mlflow.entities import Metric

    values = dict(metrics)
    for split in ("public", "private", "test"):
        for name, scores in details["splits"].get(split, {}).get("per_class", {}).items():
            values |= {
                f"{split}_{name}_{score}": scores[score] for score in ("precision", "recall", "f1")
            }
    if "train_seconds" in about:
        values["train_seconds"] = about["train_seconds"]
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, float(v), now, 0) for k, v in values.items()])


def _log_files(run_id, listed, details, model):
    """The files and folders listed, the dataset with its digest, and the model with its signature where there is one."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    client = mlflow.MlflowClient()
    for path in listed:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
    source = CodeDatasetSource({"ferlab.dataset": details["dataset"]})
    data = MetaDataset(source, name=details["dataset"], digest=details["digest"][:32])
    with mlflow.start_run(run_id=run_id):
        try:
            mlflow.log_input(data, context="training")
        except (
            mlflow.MlflowException
        ):  # another writer entered the same dataset in between: now it is there
            mlflow.log_input(data, context="training")
        outputs = client.get_run(run_id).outputs
        if model and not (outputs and outputs.model_outputs):
            try:
                _log_model(model)
            except (
                files.UserError
            ):  # made on another backend than the one that runs here: the file itself, then
                client.log_artifact(run_id, str(model), "model")


def _log_model(path):
    import importlib.metadata

    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from ferlab.evaluation import inference
    from ferlab.training import backend

    settings = params.raw(path.parent.parent / "params.yaml")["train"]
    keras = backend.start(settings["backend"], settings["precision"])
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, 48, 48, 1))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, model.output_shape[-1]))])
    model.save = lambda place, **_: shutil.copyfile(
        path, place
    )  # the very file, with what it says of its use
    needs = [
        f"{name}=={importlib.metadata.version(name)}"
        for name in ("keras", settings["backend"], "numpy")
    ]
    about = dataclasses.asdict(
        inference.read_about(path)
    )  # a bare Keras network cannot equalise: who loads it reads this
    mlflow.keras.log_model(
        model,
        name="model",
        signature=ModelSignature(inputs, outputs),
        pip_requirements=needs,
        metadata={"ferlab": about},
    )
