"""Finding runs in MLflow: by name, by result, by training."""

import socket

from ferlab import files
from ferlab.tracking import store
from ferlab.tracking.store.address import Trouble, address, artifact_root

COMPLETE = "tags.`ferlab.complete` = 'true'"
REVISION = "ferlab.revision"  # the tag of a run that shows a DVC experiment: its commit
EXPERIMENT = "ferlab-"  # how the experiments of ferlab are called, before the dataset's name


def experiment_of(client, dataset):
    """The id of the MLflow experiment of a dataset, made where it is not there yet.

    Raises Trouble where it was deleted in MLflow's page: its name is taken, and no run can be in
    it.
    """
    name = f"{EXPERIMENT}{dataset.split()[0]}"
    existing = client.get_experiment_by_name(name)
    if existing:
        if existing.lifecycle_stage == "deleted":
            raise deleted(existing)
        return existing.experiment_id
    root = artifact_root()
    location = f"{root}/{name}" if root else None
    # the kind makes MLflow's page open on training runs instead of its language-model views
    kind = {"mlflow.experimentKind": "custom_model_development"}
    try:
        return client.create_experiment(name, artifact_location=location, tags=kind)
    except Exception:  # another writer made it in between
        return client.get_experiment_by_name(name).experiment_id


def deleted(experiment):
    """The Trouble of an experiment that was deleted in MLflow's page."""
    restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
    return Trouble(
        f"MLflow's experiment {experiment.name} was deleted, so no result can be shown in it",
        f"MLFLOW_TRACKING_URI={address()} {restore}",
    )


def deleted_experiments(client):
    """Ferlab's experiments that were deleted in MLflow's page."""
    from mlflow.entities import ViewType

    listed = client.search_experiments(view_type=ViewType.DELETED_ONLY)
    return [experiment for experiment in listed if experiment.name.startswith(EXPERIMENT)]


def named(client, name):
    """Complete runs of this name, or the run of this id."""
    return complete(client, name) or _search(client, f"attributes.run_id = {_quoted(name)}")


def complete(client, name):
    """Complete runs of this name."""
    return _search(client, f"attributes.run_name = {_quoted(name)} and {COMPLETE}")


def with_key(client, key, name):
    """Runs with this result key and name, the complete one first."""
    runs = _search(
        client, f"tags.`ferlab.key` = {_quoted(key)} and attributes.run_name = {_quoted(name)}"
    )
    return sorted(runs, key=lambda run: run.data.tags.get("ferlab.complete") != "true")


def revisions(client):
    """{(name, commit)} of the DVC experiments that have their run."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    condition, found, token = f"tags.`{REVISION}` LIKE '%' and {COMPLETE}", set(), None
    while token is None or token:  # pages of a thousand
        page = client.search_runs(ids, condition, max_results=1000, page_token=token)
        found |= {(run.info.run_name, run.data.tags[REVISION]) for run in page}
        token = page.token or ""
    return found


def of_key(client, key):
    """Complete runs of this result key."""
    return _search(client, f"tags.`ferlab.key` = {_quoted(key)} and {COMPLETE}")


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
    runs = _of_training(client, training, COMPLETE)
    return any(run.data.params.items() == wanted and fits(run.info.run_name) for run in runs)


def epochs(client, run_id):
    """The epochs whose metrics the run already has, as a set of numbers from 1."""
    return {metric.step for metric in client.get_metric_history(run_id, "epoch/selection_accuracy")}


def flat(settings):
    """Nested sections as MLflow's parameters: {section.key: text}."""
    return {
        f"{section}.{key}": str(value)
        for section, values in settings.items()
        for key, value in values.items()
    }


def _quoted(text):
    """A text for a condition of MLflow's, which knows no escapes: with ' it stands between \"."""
    if "'" in text and '"' in text:
        raise files.UserError(f"{text}: no name with both kinds of quotes can be looked for")
    return f'"{text}"' if "'" in text else f"'{text}'"


def _of_training(client, training, condition):
    if not training:
        return []
    return _search(client, f"tags.`ferlab.training` = '{training}' and {condition}")


def _search(client, condition):
    """Runs of all MLflow experiments that fulfil a condition."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, condition)
