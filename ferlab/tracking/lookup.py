"""Results by name: a recipe's key, a DVC experiment, an MLflow run, or the workspace."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ferlab import files, params, recipes
from ferlab.evaluation import tables


@dataclass(frozen=True)
class Result:
    """values: parameters as nested dicts. predictions: of the evaluation splits. history may be None, seconds of epochs empty."""

    name: str
    values: dict
    details: dict
    predictions: pd.DataFrame
    history: pd.DataFrame | None
    seconds: list


def find(name):
    """The Result of that name; UserError, with what is known, where there is none."""
    if name == "workspace":
        return workspace()
    if name in recipes.with_result():
        _, details, history, run = recipes.read_result(name)
        return Result(
            name,
            recipes.raw_recipe(*recipes.recipe_of(name)),
            details,
            tables.of_recipe(name),
            history,
            run.get("epochs", []),
        )
    from ferlab.tracking import dvc_files

    known = {experiment: revision for experiment, revision, _ in dvc_files.experiments()}
    if name in known:
        return experiment(name, known[name])
    found = tracked(name)
    if found:
        return found
    listed = ["workspace", *recipes.with_result(), *known]
    raise files.UserError(
        f"{name}: no recipe with a result, no DVC experiment and no MLflow run; known: {', '.join(listed)}"
    )


def workspace(folder=Path("."), name="workspace"):
    """The result in a folder laid out as the bench."""
    from ferlab.tracking import provenance

    try:
        table = tables.read(folder / "reports/predictions.csv")
        details = files.read_json(folder / "reports/details.json")
    except FileNotFoundError as error:
        raise files.UserError(f"{name}: {error.filename} not found; `dvc repro` makes it") from None
    model = folder / "models/model.keras"
    noted = provenance.read_run(model) if model.exists() else {}
    return Result(
        name,
        params.raw(folder / "params.yaml"),
        details,
        table[table["split"] != "train"],
        pd.read_csv(folder / "models/history.csv"),
        noted.get("epochs", []),
    )


def experiment(name, revision):
    """The result of a DVC experiment, brought from Git and DVC's cache."""
    from dvc.api import DVCFileSystem

    with tempfile.TemporaryDirectory() as temporary:
        folder, system = Path(temporary), DVCFileSystem(str(files.root()), rev=revision)
        for file in (
            "params.yaml",
            "reports/predictions.csv",
            "reports/details.json",
            "models/history.csv",
            "models/model.keras",
        ):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            try:
                system.get(file, str(folder / file))
            except Exception as error:  # DVC raises many kinds
                reason = " ".join(str(error).split())[:100]
                fix = f"dvc exp apply {name} && dvc repro"
                raise files.UserError(
                    f"{name}: {file} is not in DVC's cache ({reason}); {fix}"
                ) from None
        return workspace(folder, name)


def tracked(name):
    """The result of an MLflow run, by its name or id, from its artifacts; None where there is no such run."""
    from ferlab.tracking import runs, store

    with store.store() as client, tempfile.TemporaryDirectory() as temporary:
        found = runs.named(client, name)
        if not found:
            return None
        folder, run_id = Path(temporary), found[0].info.run_id
        try:
            for file in ("params.yaml", "details.json", "predictions.csv.gz", "history.csv"):
                client.download_artifacts(run_id, file, str(folder))
        except Exception as error:  # MLflow's stores raise many kinds
            reason = " ".join(str(error).split())[:100]
            raise files.UserError(
                f"{name}: the MLflow run lacks {file} ({reason}); python -m ferlab sync"
            ) from None
        return Result(
            found[0].info.run_name or name,
            params.raw(folder / "params.yaml"),
            files.read_json(folder / "details.json"),
            tables.read(folder / "predictions.csv.gz"),
            pd.read_csv(folder / "history.csv"),
            [],
        )
