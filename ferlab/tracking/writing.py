"""Writing into MLflow runs: parameters, epochs and final scores. Each call may be repeated.

MLflow's page groups metrics by what stands before a slash: `epoch/selection_accuracy`,
`private/accuracy`, `private/disgust_recall`.
"""

import re
import time

from ferlab.tracking import provenance, search

# what scores are of, the longer name first where one begins another
PARTS = ("train", "public", "private_unseen_near", "private_unseen", "private", "test", "ferplus")


def create(client, dataset, settings, name, tags=None, start=None):
    """Start a run with its parameters; returns its id.

    dataset: the name of the data. start: when its training began, in seconds since 1970.
    """
    run = client.create_run(
        search.experiment_of(client, dataset),
        run_name=name,
        start_time=_milliseconds(start),
        tags={"mlflow.source.name": "dvc repro", **(tags or {})},
    )
    log_params(client, run.info.run_id, settings)
    return run.info.run_id


def log_params(client, run_id, settings):
    """Log all parameters; a run whose process was killed in between gets the missing ones."""
    from mlflow.entities import Param

    values = search.flat(settings)
    client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])


def log_epoch(client, run_id, row, at=None):
    """Log one epoch. row: a dict of a row of history.csv. at: when it ended, in seconds."""
    values = {
        f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "chosen")
    }
    _log_metrics(client, run_id, values, int(row["epoch"]), at)


def log_history(client, run_id, history, ends):
    """Log the epochs of a history.csv that the run lacks.

    history: a pandas frame. ends: when each epoch ended, in seconds since 1970.
    """
    logged = search.epochs(client, run_id)
    for row, at in zip(history.to_dict("records"), ends, strict=True):
        if row["epoch"] not in logged:
            log_epoch(client, run_id, row, at)


def log_scores(client, run_id, metrics, details, run, **of):
    """Log metrics.json and, from details.json, precision, recall and F1 of each class.

    run: the content of run.json. of: the model and the dataset that the scores belong to, as in
    mlflow.entities.Metric.
    """
    from ferlab.evaluation import tables

    final, classes = tables.final(details["splits"]), tuple(details["classes"])
    values = {metric_name(name, final, classes): value for name, value in metrics.items()}
    for split in ("public", "private", "test"):
        for name, scores in details["splits"].get(split, {}).get("per_class", {}).items():
            name = re.sub(r"[^\w.\- ]", "_", name)  # of one's own classes: what MLflow allows
            values |= {
                f"{split}/{name}_{score}": scores[score] for score in ("precision", "recall", "f1")
            }
    if "train_seconds" in run:
        values["train/seconds"] = run["train_seconds"]
    _log_metrics(client, run_id, values, 0, provenance.end(run), **of)


def metric_name(name, final, classes=()):
    """What a score of metrics.json is called in MLflow: `private_accuracy` is `private/accuracy`.

    final: the split that a score belongs to which names none (`loss`, `disgust_recall`).
    """
    if name.partition("_")[0] not in classes:
        for part in PARTS:
            if name.startswith(f"{part}_"):
                return f"{part}/{name.removeprefix(f'{part}_')}"
    return f"{final}/{name}"


def _log_metrics(client, run_id, values, step, at=None, **of):
    from mlflow.entities import Metric

    now = _milliseconds(time.time() if at is None else at)
    metrics = [Metric(name, float(value), now, step, **of) for name, value in values.items()]
    client.log_batch(run_id, metrics=metrics)


def finish(client, run_id, end):
    """End a run as finished. end: of its training, in seconds since 1970."""
    began = client.get_run(run_id).info.start_time
    client.set_terminated(run_id, "FINISHED", max(began, _milliseconds(end)))


def _milliseconds(seconds):
    return None if seconds is None else int(1000 * seconds)
