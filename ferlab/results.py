"""The recipes' committed results: recipes/results/<key>/ holds metrics.json, details.json, history.csv, run.json (seconds,
machine, commit) and predictions.csv.gz, the rounded probabilities of the evaluation splits.
"""

import gzip
import io

import pandas as pd

from ferlab import files, params
from ferlab.evaluation import classes_of


def folder(key):
    return params.RECIPES / "results" / key


def listed():
    """Keys that have a result, sorted."""
    return sorted(file.parent.name for file in (params.RECIPES / "results").glob("*/metrics.json"))


def write_predictions(place, predictions):
    """Public, private and further images, probabilities in thousandths; no time in the packed file: equal rows, equal bytes."""
    rows = predictions[~predictions["split"].isin(["train", "validation"])]
    chances = [f"p_{name}" for name in classes_of(predictions)]
    rows = rows.assign(**{name: (1000 * rows[name]).round().astype(int) for name in chances})
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as file:
        file.write(rows.to_csv(index=False, lineterminator="\n").encode())
    with files.replacing(place / "predictions.csv.gz") as part:
        part.write_bytes(packed.getvalue())


def read_predictions(path):
    """A table that `write_predictions` wrote, probabilities from 0 to 1."""
    table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    return table.assign(**{f"p_{name}": table[f"p_{name}"] / 1000 for name in classes_of(table)})


def predictions(key):
    """The table of predictions of a key. Raises UserError where the key has none."""
    path = folder(key) / "predictions.csv.gz"
    if not path.exists():
        raise files.UserError(f"{path}: not found; known results: {', '.join(listed()) or 'none'}; `dvc repro` makes it")
    return read_predictions(path)


def read(key):
    """(metrics, details, history or None, run or {}) of a key."""
    place = folder(key)
    if not (place / "details.json").exists():
        raise files.UserError(f"{place}: no result; known: {', '.join(listed()) or 'none'}")
    history = pd.read_csv(place / "history.csv") if (place / "history.csv").exists() else None
    run = files.read_json(place / "run.json") if (place / "run.json").exists() else {}
    return files.read_json(place / "metrics.json"), files.read_json(place / "details.json"), history, run
