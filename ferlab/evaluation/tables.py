"""Tables of predictions: one row per image.

Columns: id, split, label, official (row of fer2013.csv or -1), predicted, and p_<class> for each
class. Probabilities are kept as logarithms in 16 bits, in steps of 1/2048, from the moment a table
is made: so the scores of a table, of its CSV file and of its packed file are the same to the last
digit, and nothing is rounded to zero.
"""

import gzip
import io

import numpy as np
import pandas as pd

from ferlab import files, recipes
from ferlab.data.dataset import SPLITS

MERGE = ("disgust", "angry")  # the six-class reading of FER2013 counts the first as the second
STEPS = 2048  # per natural logarithm: a probability is known to 0.025 %
MAX_STEPS = 2**16 - 1  # a probability of 1e-14


def of_dataset(dataset, probabilities):
    """The table of a dataset's original images (not of augmented ones).

    probabilities: float (N, C), row by row those of `dataset`.
    """
    original = (dataset.table["origin"] == "original").to_numpy()
    rows = dataset.table.loc[original, ["id", "split", "label", "official"]]
    return make(rows, np.asarray(probabilities)[original], dataset.classes)


def make(rows, probabilities, classes):
    """`rows` (a frame without predictions) with the columns predicted and p_<class>.

    The most probable class is taken before the probabilities are quantised.
    """
    probabilities = np.asarray(probabilities, np.float64)
    predicted = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    kept = _probabilities(_steps(probabilities))
    columns = {f"p_{name}": column for name, column in zip(classes, kept.T, strict=True)}
    return rows.reset_index(drop=True).assign(predicted=predicted, **columns)


def _steps(probabilities):
    """Negative logarithms as whole numbers of steps, uint16."""
    with np.errstate(divide="ignore"):
        steps = np.rint(-STEPS * np.log(probabilities))
    return np.clip(steps, 0, MAX_STEPS).astype(np.uint16)


def _probabilities(steps):
    return np.exp(np.asarray(steps, np.float64) / -STEPS)


def classes_of(table):
    """Class names of a table, in its order (alphabetical)."""
    return tuple(name.removeprefix("p_") for name in table.columns if name.startswith("p_"))


def probabilities(table):
    """float64 (N, C): the columns p_<class>."""
    return table[[f"p_{name}" for name in classes_of(table)]].to_numpy(np.float64)


def fold(table):
    """The same table with disgust counted as angry: probabilities summed, the argmax taken anew.

    A table that does not have both classes is returned as it is.
    """
    merged, into = MERGE
    classes = classes_of(table)
    if not set(MERGE) <= set(classes):
        return table
    kept = [name for name in classes if name != merged]
    sums = table.assign(**{f"p_{into}": table[f"p_{into}"] + table[f"p_{merged}"]})
    rows = table.loc[:, :"predicted"].drop(columns="predicted")
    rows = rows.assign(label=rows["label"].replace(merged, into))
    return make(rows, sums[[f"p_{name}" for name in kept]].to_numpy(), kept)


def parts(table, seen=()):
    """{name: rows} of those present: the splits, private_unseen, test, and further sets of faces.

    `private_unseen` is private without the ids in `seen`; `test` is public and private together
    where a dataset has these. Further sets come last, by their names.
    """
    split = table["split"]
    masks = {name: split == name for name in SPLITS[:-1]}
    masks["private_unseen"] = (split == "private") & ~table["id"].isin(seen)
    masks["test"] = split.isin(["public", "private", "test"])
    masks |= {name: split == name for name in split.unique() if name not in SPLITS}
    return {name: table[mask] for name, mask in masks.items() if mask.any()}


def final(splits):
    """The split that is reported last: private, or test where a dataset has no private images."""
    return "private" if "private" in splits else "test"


def write(path, table):
    """Write a table as CSV, seven significant digits: `read` gives the very same table."""
    files.write_csv(path, table, "%.7g")


def write_packed(path, table):
    """Write the evaluation images of a table as packed CSV, at most 250 kB for FER2013.

    Without train and validation; the columns nll_<class> are negative logarithms in steps. No time
    stands in the file: equal rows give equal bytes.
    """
    rows = table[~table["split"].isin(["train", "validation"])]
    names = [f"nll_{name}" for name in classes_of(table)]
    steps = pd.DataFrame(_steps(probabilities(rows)), columns=names, index=rows.index)
    rows = pd.concat([rows.loc[:, :"predicted"], steps], axis=1)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as file:
        file.write(rows.to_csv(index=False, lineterminator="\n").encode())
    with files.replacing(path) as part:
        part.write_bytes(packed.getvalue())


def read(path):
    """The table in a file that `write` or `write_packed` wrote. Raises UserError without one."""
    try:
        table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    except FileNotFoundError:
        raise files.UserError(f"{path}: not found; `dvc repro` makes it") from None
    packed = [name for name in table if name.startswith("nll_")]
    if packed:
        steps = table[packed].to_numpy()
    else:
        packed = [name for name in table if name.startswith("p_")]
        steps = _steps(table[packed].to_numpy(np.float64))
    names = ["p_" + name.split("_", 1)[1] for name in packed]
    columns = pd.DataFrame(_probabilities(steps), columns=names, index=table.index)
    return pd.concat([table.drop(columns=packed), columns], axis=1)


def of_recipe(key):
    """The table of evaluation images of a recipe's committed result. Raises UserError without."""
    path = recipes.result_folder(key) / "predictions.csv.gz"
    if not path.exists():
        known = ", ".join(recipes.with_result()) or "none"
        raise files.UserError(f"{path}: not found; known results: {known}; `dvc repro` makes it")
    return read(path)
