"""Where the labels and FER+ differ: what ten other people call the faces.

FER+ says something of an image only where more than half of its annotators name the same thing
(`ferplus.majority`).
"""

import numpy as np
import pandas as pd

from ferlab.data import ferplus
from ferlab.data.classes import CLASSES

UNCLEAR = "no majority"


def named(official, classes):
    """object (N,): what FER+'s majority calls each image, a name of CLASSES or ferplus.OTHERS;
    UNCLEAR where there is no majority, "" where the image is not known, or no class is FER2013's.

    official: rows of fer2013.csv, int (N,), -1 where unknown. classes: of the dataset; where these
    have no disgust, it was merged into angry, and so it is here.
    """
    official = np.asarray(official)
    if not {*classes} & {*CLASSES}:  # FER+ has no word for any of them
        return np.full(len(official), "", object)
    names = ferplus.majority(official)
    if "disgust" not in classes:
        names = np.where(names == "disgust", "angry", names)
    return np.where(official < 0, "", np.where(names == "", UNCLEAR, names))


def confusion(labels, names, classes):
    """DataFrame of images: a row for each label (of `classes`), a column for each name that `named`
    may give; images that are not known are left out."""
    common = [name for name in CLASSES if name != "disgust" or name in classes]
    table = pd.crosstab(np.asarray(labels, object), names).reindex(  # which has no column for ""
        index=list(classes), columns=[*common, *ferplus.OTHERS, UNCLEAR], fill_value=0
    )
    return table.rename_axis("label").rename_axis(None, axis=1)


def counts(table):
    """DataFrame, a row for each label of a `confusion`: its `images`, and of these how often FER+'s
    majority `agrees`, gives `another` of the seven names or `other` (contempt, unknown, no face),
    or is `unclear`, there being none."""
    images, other = table.sum(axis=1), table[list(ferplus.OTHERS)].sum(axis=1)
    agrees = pd.Series({name: table.at[name, name] if name in table else 0 for name in table.index})
    return pd.DataFrame(
        {
            "images": images,
            "agrees": agrees,
            "another": images - agrees - other - table[UNCLEAR],
            "other": other,
            "unclear": table[UNCLEAR],
        }
    ).rename_axis("label")


def by_split(audit, names, classes):
    """DataFrame: split, label, and the columns of `counts`, by split and label of an audit whose
    images FER+ calls `names`."""
    tables = {
        split: counts(confusion(rows["label"], names[rows.index], classes))
        for split, rows in audit.reset_index(drop=True).groupby("split", sort=False)
    }
    return pd.concat(tables, names=["split"]).reset_index()


def contradicted(row):
    """Share of the labels that a majority contradicts, from a row of `counts`; 0 of no images."""
    return (row["another"] + row["other"]) / row["images"] if row["images"] else 0.0
