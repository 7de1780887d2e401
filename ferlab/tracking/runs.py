"""One MLflow run for each finished result, made from its files.

A run's truth is what the stages wrote: `project` makes or completes the run of the result in a
folder, `project_recipe` that of a recipe's committed result. Nothing is logged twice.
"""

import itertools
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ferlab import files, params, recipes
from ferlab.tracking import artifacts, provenance, results, search, store, writing


@dataclass
class _Result:
    """The files of one finished result, for `_project`.

    key: its `result_key`. reports: the folder of details.json and metrics.json. run: the content of
    run.json. paths: files and folders to log. model: path of a `.keras` file. baseline: the commit
    that an experiment started from.
    """

    key: str
    name: str
    settings: dict
    reports: Path
    history: Path
    run: dict
    tags: dict
    paths: list = field(default_factory=list)
    model: Path | None = None
    baseline: str | None = None


def project(folder, name=None, baseline=None):
    """Make or complete the MLflow run of the finished result in `folder`; returns its id.

    name: the DVC experiment's, else DVC_EXP_NAME, else `repro-<first digits of its result_key>`.
    baseline: the commit that the experiment started from.
    """
    from ferlab.evaluation import tables

    settings, model = params.raw(folder / "params.yaml"), folder / "models/model.keras"
    settings.pop("explain", None)  # changes no result, so that the run does not bear it
    reports, history = folder / "reports", folder / "models/history.csv"
    key, name = _key_and_name(folder, name)
    run, tags = provenance.read_run(model), {"ferlab.model_md5": files.md5(model)}
    if not name.startswith("repro-"):
        tags["dvc.experiment"] = name
    paths = [
        *(reports / file for file in ("report.html", "details.json", "metrics.json", "figures")),
        history,
        folder / "params.yaml",
    ]
    predictions = tables.read(reports / "predictions.csv")
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary) / "predictions.csv.gz"
        tables.write_packed(packed, predictions)  # what comparing needs, small
        paths.append(packed)
        return _project(
            _Result(key, name, settings, reports, history, run, tags, paths, model, baseline)
        )


def project_explained(folder):
    """Add reports/explain to the run of the result in `folder`, once, where it is of this model."""
    explained, model = folder / "reports/explain", folder / "models/model.keras"
    about = explained / "calibration.json"
    if not about.exists() or files.read_json(about)["model_md5"] != files.md5(model):
        return
    with store.store() as client:
        for run in search.with_key(client, *_key_and_name(folder)):
            artifacts.log_once(client, run, explained)


def project_recipe(key):
    """Make or complete the MLflow run of a recipe's committed result, named like its key.

    Returns its id.
    """
    folder = recipes.result_folder(key)
    settings = recipes.pinned(key)
    settings.pop("explain", None)
    run = provenance.committed(folder / "run.json")
    hashed = ("predictions.csv.gz", "details.json", "metrics.json")
    result = results.result_key(settings, *(files.md5(folder / name) for name in hashed))
    # neither the run.json nor what a killed process left of one
    paths = [file for file in sorted(folder.iterdir()) if "run.json" not in file.name]
    tags = {"ferlab.recipe": recipes.recipe_of(key)[0]}
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "params.yaml"  # so that the run can be compared by its id
        params.write(settings, written)
        paths.append(written)
        return _project(
            _Result(result, key, settings, folder, folder / "history.csv", run, tags, paths)
        )


def _key_and_name(folder, name=None):
    key = results.key_in(folder)
    return key, name or os.environ.get("DVC_EXP_NAME") or f"repro-{key[:8]}"


def _project(result):
    """Make or complete the run of one result; returns its id."""
    details = files.read_json(result.reports / "details.json")
    metrics = files.read_json(result.reports / "metrics.json")
    with store.store() as client:
        runs = search.with_key(client, result.key, result.name)
        run_id = runs[0].info.run_id if runs else None
        if any(run.data.tags.get("ferlab.complete") == "true" for run in runs):
            return run_id
        if not run_id:
            run_id = search.unfinished(
                client, result.run.get("training"), result.settings, result.name, "training"
            ) or writing.create(
                client,
                details["dataset"],
                result.settings,
                result.name,
                # from its first moment, so that one which a kill left unfinished is taken up
                {"ferlab.key": result.key, **store.process()},
                _start(result.run),
            )
        writing.log_params(client, run_id, result.settings)
        client.update_run(run_id, name=result.name)
        for tag, value in _tags(result, details).items():
            client.set_tag(run_id, tag, str(value))
        if result.history.exists():
            history = pd.read_csv(result.history)
            writing.log_history(client, run_id, history, _ends(result.run, len(history)))
        of = artifacts.log_files(run_id, result.paths, details, result.model)
        writing.log_scores(client, run_id, metrics, details, result.run, **of)
        client.set_tag(run_id, "ferlab.complete", "true")
        writing.finish(client, run_id, provenance.end(result.run))
        return run_id


def _start(run):
    """When a training began, in seconds since 1970. run: the content of its run.json."""
    return provenance.end(run) - run.get("train_seconds", 0)


def _ends(run, epochs):
    """When each epoch ended; where their seconds are not known, all at the end of the training."""
    seconds = run.get("epochs", [])
    if len(seconds) != epochs:
        return [provenance.end(run)] * epochs
    return [_start(run) + passed for passed in itertools.accumulate(seconds)]


def _description(details, settings):
    """One line: what was trained, and how good it is."""
    from ferlab.evaluation import tables

    split = tables.final(details["splits"])
    scores = details["splits"][split]
    accuracy, low, high = (100 * scores[f"accuracy{end}"] for end in ("", "_low", "_high"))
    trained = f", {settings['train']['epochs']} epochs" if "train" in settings else ""
    return (
        f"{accuracy:.2f} % of {scores['n']:,} {split} images right (95 % interval {low:.2f} to "
        f"{high:.2f} %): {details['model']['name']} on {details['dataset']}{trained}"
    )


def _tags(result, details):
    commit = result.baseline or result.run.get("commit") or provenance.commit()
    training = {"ferlab.training": result.run["training"]} if result.run.get("training") else {}
    machine = result.run.get("machine", {})
    if result.run.get("precision"):
        training["ferlab.precision"] = result.run["precision"]
    return {
        "ferlab.key": result.key,
        "ferlab.dataset": details["dataset"],
        "ferlab.data_digest": details["digest"],
        "ferlab.parameters": details["model"]["parameters"],
        "mlflow.source.git.commit": commit,
        "mlflow.note.content": _description(details, result.settings),
        **training,
        **{f"machine.{name}": value for name, value in machine.items()},
        **result.tags,
    }
