"""Writing into MLflow runs: parameters, epochs and final scores. Each call may be repeated."""

import re
import time

from ferlab.tracking import search


def create(client, dataset, settings, name, tags=None):
    """Start a run with its parameters; returns its id. dataset: the name of the data."""
    run = client.create_run(
        search.experiment_of(client, dataset),
        run_name=name,
        tags={"mlflow.source.name": "dvc repro", **(tags or {})},
    )
    log_params(client, run.info.run_id, settings)
    return run.info.run_id


def log_params(client, run_id, settings):
    """Log all parameters; a run whose process was killed in between gets the missing ones."""
    from mlflow.entities import Param

    values = search.flat(settings)
    client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])


def log_epoch(client, run_id, row):
    """Log one epoch. row: a dict of a row of history.csv."""
    values = {name: value for name, value in row.items() if name not in ("epoch", "chosen")}
    _log_metrics(client, run_id, values, int(row["epoch"]))


def log_history(client, run_id, history):
    """Log the epochs of a history.csv that the run lacks. history: a pandas frame."""
    logged = search.epochs(client, run_id)
    for row in history.to_dict("records"):
        if row["epoch"] not in logged:
            log_epoch(client, run_id, row)


def log_scores(client, run_id, metrics, details, train_seconds=None):
    """Log metrics.json and, from details.json, precision, recall and F1 of each class."""
    values = dict(metrics)
    for split in ("public", "private", "test"):
        for name, scores in details["splits"].get(split, {}).get("per_class", {}).items():
            name = re.sub(r"[^\w.\- ]", "_", name)  # of one's own classes: what MLflow allows
            values |= {
                f"{split}_{name}_{score}": scores[score] for score in ("precision", "recall", "f1")
            }
    if train_seconds is not None:
        values["train_seconds"] = train_seconds
    _log_metrics(client, run_id, values, 0)


def _log_metrics(client, run_id, values, step):
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
    client.log_batch(run_id, metrics=metrics)
