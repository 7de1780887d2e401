"""Finding runs in MLflow: by name, by result, by training."""

import os
import socket

from ferlab import files
from ferlab.tracking import store


def experiment_of(client, dataset):
    """The id of the MLflow experiment of a dataset, made where it is not there yet.

    Local artifacts lie in the main repository, never in a temporary workspace.
    """
    name = f"ferlab-{dataset.split()[0]}"
    existing = client.get_experiment_by_name(name)
    if existing:
        return existing.experiment_id
    is_local = not os.environ.get("MLFLOW_TRACKING_URI", "sqlite").startswith("http")
    location = (files.root() / "mlartifacts" / name).as_uri() if is_local else None
    # the kind makes MLflow's page open on training runs instead of its language-model views
    kind = {"mlflow.experimentKind": "custom_model_development"}
    try:
        return client.create_experiment(name, artifact_location=location, tags=kind)
    except Exception:  # another writer made it in between
        return client.get_experiment_by_name(name).experiment_id


def named(client, name):
    """Complete runs of this name, or the run of this id.

    Raises UserError where the store does not answer.
    """
    quoted = name.replace("'", "")
    with store.answering():
        runs = complete(client, quoted)
        return runs or _search(client, f"attributes.run_id = '{quoted}'")


def complete(client, name):
    """Complete runs of this name."""
    return _search(client, f"attributes.run_name = '{name}' and tags.`ferlab.complete` = 'true'")


def with_key(client, key, name):
    """Runs with this result key and name, the complete one first."""
    runs = _search(client, f"tags.`ferlab.key` = '{key}' and attributes.run_name = '{name}'")
    return sorted(runs, key=lambda run: run.data.tags.get("ferlab.complete") != "true")


def unfinished(client, training, settings, *names):
    """The id of the unfinished run of a training under one of these names, or None.

    It was begun by a process of this host that is dead now. It may lack parameters, but has none
    other than `settings`. training: the hash of all that decides the weights.
    """
    wanted, host = flat(settings).items(), f"tags.`ferlab.host` = '{socket.gethostname()}'"
    for run in _of_training(client, training, f"{host} and attributes.status != 'FINISHED'"):
        if (
            run.info.run_name in names
            and "ferlab.key" not in run.data.tags
            and run.data.params.items() <= wanted
            and not store.is_alive(run.data.tags)
        ):
            return run.info.run_id
    return None


def is_complete(client, training, settings, name):
    """True where the result of this training with these parameters has its run.

    Outside an experiment, where `name` is "training", that run bears its key as its name.
    """

    def fits(run_name):
        return run_name == name or name == "training" and run_name.startswith("repro-")

    wanted = flat(settings).items()
    runs = _of_training(client, training, "tags.`ferlab.complete` = 'true'")
    return any(run.data.params.items() == wanted and fits(run.info.run_name) for run in runs)


def epochs(client, run_id):
    """The epochs whose metrics the run already has, as a set of numbers from 1."""
    return {metric.step for metric in client.get_metric_history(run_id, "selection_accuracy")}


def flat(settings):
    """Nested sections as MLflow's parameters: {section.key: text}."""
    return {
        f"{section}.{key}": str(value)
        for section, values in settings.items()
        for key, value in values.items()
    }


def _of_training(client, training, condition):
    if not training:
        return []
    return _search(client, f"tags.`ferlab.training` = '{training}' and {condition}")


def _search(client, condition):
    """Runs of all MLflow experiments that fulfil a condition."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, condition)
