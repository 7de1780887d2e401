"""Tables of predictions: one row per image with id, split, label, official, predicted and p_<class> for each class."""

import gzip
import io

import numpy as np
import pandas as pd

from ferlab import files, recipes
from ferlab.data.dataset import SPLITS

MERGE = ("disgust", "angry")  # the six-class reading of FER2013 counts the first as the second


def of_dataset(dataset, probabilities):
    """One row per original image (not per augmented one): id, split, label, official, predicted, and p_<class> for each class.

    probabilities: (N, C), row by row those of `dataset`. Rounded to six decimals first, as they are written: scores of
    the table and scores of its file are then the same.
    """
    original = (dataset.table["origin"] == "original").to_numpy()
    rounded = np.round(np.asarray(probabilities, np.float64)[original], 6)
    return make(
        dataset.table.loc[original, ["id", "split", "label", "official"]], rounded, dataset.classes
    )


def classes_of(predictions):
    """Class names of a table of predictions, in its order (alphabetical)."""
    return tuple(name.removeprefix("p_") for name in predictions.columns if name.startswith("p_"))


def fold(predictions):
    """The same table with disgust counted as angry: probabilities summed, the most probable class chosen again.

    A table that does not have both classes is returned as it is.
    """
    gone, into = MERGE
    classes = classes_of(predictions)
    if not set(MERGE) <= set(classes):
        return predictions
    folded = predictions.assign(
        **{
            f"p_{into}": predictions[f"p_{into}"] + predictions[f"p_{gone}"],
            "label": predictions["label"].replace(gone, into),
        }
    )
    kept = [name for name in classes if name != gone]
    return make(
        folded.loc[:, :"predicted"].drop(columns="predicted"),
        folded[[f"p_{name}" for name in kept]].to_numpy(),
        kept,
    )


def make(rows, probabilities, classes):
    chosen = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    columns = {f"p_{name}": column for name, column in zip(classes, probabilities.T, strict=True)}
    return rows.reset_index(drop=True).assign(predicted=chosen, **columns)


def parts(predictions, seen=()):
    """Rows by split, {name: table}, those present: the splits, private without the ids in `seen`, and test.

    `test` is public and private together where a dataset has these. Further sets of faces come last, by their names.
    """
    split = predictions["split"]
    masks = {name: split == name for name in SPLITS[:-1]}
    masks["private_unseen"] = (split == "private") & ~predictions["id"].isin(seen)
    masks["test"] = split.isin(["public", "private", "test"])
    masks |= {name: split == name for name in split.unique() if name not in SPLITS}
    return {name: predictions[mask] for name, mask in masks.items() if mask.any()}


def final(splits):
    """The split a result is judged by: private, or test where a dataset has no private images."""
    return "private" if "private" in splits else "test"


def write_packed(place, predictions):
    """Public, private and further images, probabilities in thousandths; no time in the packed file: equal rows, equal bytes."""
    rows = predictions[~predictions["split"].isin(["train", "validation"])]
    chances = [f"p_{name}" for name in classes_of(predictions)]
    rows = rows.assign(**{name: (1000 * rows[name]).round().astype(int) for name in chances})
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as file:
        file.write(rows.to_csv(index=False, lineterminator="\n").encode())
    with files.replacing(place / "predictions.csv.gz") as part:
        part.write_bytes(packed.getvalue())


def read_packed(path):
    """A table that `write_predictions` wrote, probabilities from 0 to 1."""
    table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    return table.assign(**{f"p_{name}": table[f"p_{name}"] / 1000 for name in classes_of(table)})


def of_recipe(key):
    """The table of predictions of a key. Raises UserError where the key has none."""
    path = recipes.result_folder(key) / "predictions.csv.gz"
    if not path.exists():
        raise files.UserError(
            f"{path}: not found; known results: {', '.join(recipes.with_result()) or 'none'}; `dvc repro` makes it"
        )
    return read_packed(path)
