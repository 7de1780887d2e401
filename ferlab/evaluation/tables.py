"""Tables of predictions: one row per image.

Columns: id, split, label, official (row of fer2013.csv or -1), group (of nearly equal images of a
further set, else empty), predicted, and p_<class> for each class. Probabilities are kept as
logarithms in 16 bits, in steps of 1/2048, from the moment a table is made: so the scores of a
table, of its CSV file and of its packed file are the same to the last digit, and nothing is rounded
to zero. A row without numbers is refused when a table is made or
read: left in, it would count as sure of something, or vanish from a mean.
"""

import gzip
import io
import shlex
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import files, recipes
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SPLITS

MERGE = ("disgust", "angry")  # the six-class reading of FER2013 counts the first as the second
STEPS = 2048  # per natural logarithm: a probability is known to 0.025 %
MAX_STEPS = 2**16 - 1  # a probability of 1e-14
TOLERANCE = 0.01  # of a row's sum: bfloat16 and the steps need a tenth of it
WORDS = ("id", "split", "label", "predicted")  # columns that are never empty
# private without the images whose very pixels train has, and without those that it has nearly
UNSEEN = ("private_unseen", "private_unseen_near")


def of_dataset(dataset, probabilities):
    """The table of a dataset's original images (not of augmented ones).

    probabilities: float (N, C), row by row those of `dataset`.
    """
    original = (dataset.table["origin"] == "original").to_numpy()
    rows = dataset.table.loc[original, ["id", "split", "label", "official"]].assign(group="")
    return make(rows, np.asarray(probabilities)[original], dataset.classes)


def make(rows, probabilities, classes):
    """`rows` (a frame without predictions) with the columns predicted and p_<class>.

    The most probable class is taken before the probabilities are quantised. Raises UserError where
    a row of `probabilities` is not made of shares that sum to 1.
    """
    probabilities = np.asarray(probabilities, np.float64)
    _check(probabilities, rows["id"].to_numpy(), "the network's answer")
    predicted = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    kept = _probabilities(_steps(probabilities))
    columns = {f"p_{name}": column for name, column in zip(classes, kept.T, strict=True)}
    return rows.reset_index(drop=True).assign(predicted=predicted, **columns)


def _check(probabilities, ids, what):
    """UserError that names the first row that is not made of shares that sum to 1."""
    with np.errstate(invalid="ignore"):
        sums = probabilities.sum(axis=1)
        right = (probabilities >= 0).all(axis=1) & (abs(sums - 1) < TOLERANCE)
    if not right.all():
        row = int(np.argmin(right))
        found = ", ".join(f"{value:.3g}" for value in probabilities[row])
        raise files.UserError(
            f"{what}: {(~right).sum():,} of {len(right):,} rows are no probabilities, first that "
            f"of image {ids[row]} ({found}); each must be from 0 to 1 and a row sum to 1, as "
            "softmax gives them"
        )


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


def has_six_classes(classes):
    """Whether the six-class reading says something: of FER2013's classes, disgust merged or not."""
    return {*classes, MERGE[0]} == {*CLASSES}


def parts(table, seen=None):
    """{name: rows} of those present: the splits, private without leaks, test, and further sets.

    seen: {name of UNSEEN: ids of private images that are left out of it}, as audit.leaked gives it.
    `test` is public and private together where a dataset has these. Further sets of faces come
    last, by their names.
    """
    split = table["split"]
    masks = {name: split == name for name in SPLITS[:-1]}
    for name, ids in (seen or {}).items():
        masks[name] = (split == "private") & ~table["id"].isin(ids)
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
    """The table in a file that `write` or `write_packed` wrote.

    Raises UserError where there is none, or where a row lacks a word or a probability.
    """
    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(("group", *WORDS), str), keep_default_na=False
        )
    except FileNotFoundError:
        raise files.UserError(f"{path}: not found; {_remedy(path)}") from None
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = files.one_line(error)
        raise files.UserError(f"{path}: damaged ({reason}); {_remedy(path)}") from None
    missing = [name for name in WORDS if name not in table]
    if missing:
        raise files.UserError(f"{path}: has no column {missing[0]}; {_remedy(path)}")
    packed = [name for name in table if name.startswith("nll_")]
    values = packed or [name for name in table if name.startswith("p_")]
    _check_words(path, table, [name.split("_", 1)[1] for name in values])
    numbers = _numbers(path, table, values)
    given = _probabilities(numbers) if packed else numbers
    _check(given, table["id"].to_numpy(), path)
    given = given if packed else _probabilities(_steps(given))
    names = ["p_" + name.split("_", 1)[1] for name in values]
    columns = pd.DataFrame(given, columns=names, index=table.index)
    return pd.concat([table.drop(columns=values), columns], axis=1)


def _check_words(path, table, classes):
    """UserError where a row does not say which image it is of, is of one that an earlier row is of,
    or names none of the classes."""
    empty = (table[list(WORDS)].astype(str) == "").any(axis=1)
    unknown = ~table[["label", "predicted"]].isin(classes).all(axis=1)
    wrong = {
        f"one of {', '.join(WORDS)} is empty": empty,
        "this image is in an earlier line already": table.duplicated(["id", "split"]),
        f"label and predicted must be of {', '.join(classes)}": unknown,
    }
    for what, rows in wrong.items():
        if rows.any():
            line = int(rows.to_numpy().argmax()) + 2
            raise files.UserError(f"{path}, line {line}: {what}; {_remedy(path)}")


def _numbers(path, table, names):
    """float64 (N, C) of these columns; UserError where a cell is empty or no number."""
    numbers = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    missing = ~np.isfinite(numbers)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise files.UserError(
            f"{path}, line {row + 2}: {names[column]} is {str(table[names[column]][row])!a}, "
            f"expected a number; {_remedy(path)}"
        )
    return numbers


def _remedy(path):
    """What brings a good table back to this place."""
    if str(recipes.RECIPES) in Path(path).parts:
        return f"git checkout {shlex.quote(str(path))} brings the committed one back"
    return "`dvc repro` makes the file anew"


def of_recipe(key):
    """The table of evaluation images of a recipe's committed result. Raises UserError without."""
    path = recipes.result_folder(key) / "predictions.csv.gz"
    if not path.exists():
        known = ", ".join(recipes.with_result()) or "none"
        raise files.UserError(
            f"{path}: not found; known results: {known}; "
            f"dvc --cd {recipes.RECIPES} repro evaluate@{key} makes it"
        )
    return read(path)
