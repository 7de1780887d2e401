"""Where labels and FER+ part: what ten other people call the faces, and a network judged by them.

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
    UNCLEAR where there is no majority, "" where the image is not known.

    official: rows of fer2013.csv, int (N,), -1 where unknown. classes: of the dataset; where these
    have no disgust, it was merged into angry, and so it is here.
    """
    official = np.asarray(official)
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
    found = {
        split: counts(confusion(rows["label"], names[rows.index], classes))
        for split, rows in audit.reset_index(drop=True).groupby("split", sort=False)
    }
    return pd.concat(found, names=["split"]).reset_index()


def contradicted(row):
    """Share of the labels that a majority contradicts, from a row of `counts`; 0 of no images."""
    return (row["another"] + row["other"]) / row["images"] if row["images"] else 0.0


def judged(predictions, audit):
    """{"ferplus": its part of details.json}, of the final split; {} where none of it is known.

    predictions: as evaluation.predictions makes them; audit: as audit.read gives it (id, official).
    split: which; images: known ones; not_known: the others; no_majority: known ones without one.
    agreed: of the n faces that most annotators give one of the network's classes, the share named
      right by their word (`accuracy`) and by the dataset's own label (`label_accuracy`), each with
      its 95 % interval (_low, _high).
    labels: for each class its `counts` and the share `contradicted`; all: the same of all labels.
    """
    from ferlab.evaluation import (  # here: eda only counts, and new scores must not make it stale
        scoring,
        tables,
    )

    parts, classes = tables.parts(predictions), tables.classes_of(predictions)
    split = tables.final(parts)
    rows = parts[split]
    official = rows["id"].map(audit.set_index("id")["official"]).fillna(-1).astype(np.int64)
    names = named(official, classes)
    known = int((names != "").sum())
    if not known:
        return {}
    clear = np.isin(names, classes)
    n = int(clear.sum())
    agreed = {"n": n}
    for key, truth in (("accuracy", names), ("label_accuracy", rows["label"].to_numpy())):
        right = int((rows["predicted"].to_numpy() == truth)[clear].sum())
        low, high = scoring.interval(right, n)
        agreed |= {key: right / n if n else 0.0, f"{key}_low": low, f"{key}_high": high}
    table = counts(confusion(rows["label"], names, classes))
    return {
        "ferplus": {
            "split": split,
            "images": known,
            "not_known": len(rows) - known,
            "no_majority": int(table["unclear"].sum()),
            "agreed": agreed,
            "labels": {name: _told(row) for name, row in table.iterrows()},
            "all": _told(table.sum()),
        }
    }


def _told(row):
    share = float(contradicted(row))
    return {name: int(value) for name, value in row.items()} | {"contradicted": share}
