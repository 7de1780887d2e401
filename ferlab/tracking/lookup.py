"""Results by name: a recipe's key, a DVC experiment, an MLflow run, or the workspace."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ferlab import dvc_files, files, params, recipes, secrets
from ferlab.evaluation import tables
from ferlab.tracking import artifacts, provenance, results, search, store
from ferlab.tracking.results import WORKSPACE

PREDICTIONS, DETAILS = "reports/predictions.csv", "reports/details.json"
HISTORY, MODEL = "models/history.csv", "models/model.keras"


@dataclass(frozen=True)
class Result:
    """A finished result.

    values: the parameters as nested dicts. details: the content of details.json. predictions: the
    table of the evaluation splits. history: of the epochs, None where nothing was trained. seconds:
    of each epoch, empty where they are not known.
    """

    name: str
    values: dict
    details: dict
    predictions: pd.DataFrame
    history: pd.DataFrame | None
    seconds: list


def find(name):
    """The Result of that name. Raises UserError, with the known names, where there is none."""
    if name == WORKSPACE:
        return workspace()
    if name in recipes.with_result():
        return _recipe(name)
    commits = {experiment: commit for experiment, commit, _ in dvc_files.experiments()}
    if name in commits:
        return experiment(name, commits[name])
    result = _tracked(name) if store.exists() else None
    if result:
        return result
    raise files.UserError(
        f"{name}: no recipe with a result, no DVC experiment and no MLflow run"
        f"{recipes.known(name, names())}"
    )


def names():
    """Names of results that need no MLflow: the workspace, recipes' keys, DVC experiments."""
    experiments = [name for name, _, _ in dvc_files.experiments()]
    return [WORKSPACE, *recipes.with_result(), *experiments]


def workspace(folder=Path("."), name=WORKSPACE, model_md5=None):
    """The result in a folder laid out as the workspace. Raises UserError where there is none.

    model_md5: of its model, where that is not in the folder.
    """
    try:
        table = tables.read(folder / PREDICTIONS)
        details = files.read_json(folder / DETAILS)
    except FileNotFoundError as error:
        raise files.UserError(f"{name}: {error.filename} not found; `dvc repro` makes it") from None
    if (folder / MODEL).exists():
        model_md5 = files.md5(folder / MODEL)
    run = provenance.read_run_of(model_md5) if model_md5 else {}
    return Result(
        name,
        results.values_of(folder),
        details,
        table[table["split"] != "train"],
        pd.read_csv(folder / HISTORY),
        run.get("epochs", []),
    )


def _recipe(key):
    """The committed result of a recipe's key."""
    _, details, history, run = recipes.read_result(key)
    values, seconds = recipes.pinned(key), run.get("epochs", [])
    return Result(key, values, details, tables.of_recipe(key), history, seconds)


def experiment(name, commit):
    """The Result of a DVC experiment, from Git and DVC's cache. UserError where it is not there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wanted = ("params.yaml", PREDICTIONS, DETAILS, HISTORY)
        dvc_files.fetch(name, {file: folder / file for file in wanted}, revision=commit)
        locked = dvc_files.outputs(
            dvc_files.stages(dvc_files.show(files.root(), commit, "dvc.lock"))
        )
        return workspace(folder, name, locked.get(MODEL))


def _tracked(name):
    """The result of an MLflow run, by its name or id, from its artifacts; None without a run."""
    with store.store() as client, tempfile.TemporaryDirectory() as temporary:
        runs = search.named(client, name)
        if not runs:
            return None
        folder, info, kept = Path(temporary), runs[0].info, artifacts.files_of(runs[0])
        trained = any(file.path == "history.csv" for file in kept.list_artifacts())
        wanted = ["params.yaml", "details.json", "predictions.csv.gz", *["history.csv"] * trained]
        for file in wanted:
            try:
                kept.download_artifacts(file, str(folder))
            except Exception as error:  # MLflow's stores raise many kinds
                reason = secrets.one_line(error)
                raise files.UserError(
                    f"{name}: the MLflow run lacks {file} ({reason}); python -m ferlab sync"
                ) from None
        return Result(
            info.run_name or name,
            params.raw(folder / "params.yaml"),
            files.read_json(folder / "details.json"),
            tables.read(folder / "predictions.csv.gz"),
            pd.read_csv(folder / "history.csv") if trained else None,
            [],
        )
