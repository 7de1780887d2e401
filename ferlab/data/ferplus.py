"""FER+: how ten annotators named each face of FER2013 (Barsoum et al. 2016, arXiv:1608.01041).

assets/ferplus.csv.gz holds the votes, a line for each row of the official fer2013.csv; its licence
(MIT, Microsoft) lies beside it. The votes belong to the faces, not to a file: a dataset's
`official` (ferlab.data.identity) links them to the images of any copy.
"""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from ferlab.data.classes import CLASSES

VOTES = Path(__file__).parents[1] / "assets/ferplus.csv.gz"
NAMES = {"anger": "angry", "happiness": "happy", "sadness": "sad"}  # as FER2013 calls them
OTHERS = ("contempt", "unknown", "NF")  # what FER2013 has no class for; NF: not a face


@functools.cache
def votes():
    """DataFrame: a row for each official image, in the order of fer2013.csv; a column of votes
    (0 to 10) for each of CLASSES and OTHERS."""
    table = pd.read_csv(VOTES).rename(columns=NAMES)
    return table[[*CLASSES, *OTHERS]]


def soft_targets(official, classes):
    """float32 (N, C): the share of the votes for each class, contempt, unknown and NF left out.

    official: rows of fer2013.csv, int (N,), -1 where unknown. classes: C names; without disgust
    among them its votes count as angry. Rows of zeros are images without one usable vote, or
    unknown ones: they cannot be trained on.
    """
    table = votes().loc[:, list(CLASSES)]
    if "disgust" not in classes:
        table = table.assign(angry=table["angry"] + table["disgust"])
    official = np.asarray(official)
    counts = table[list(classes)].to_numpy(np.float32)[official] * (official >= 0)[:, None]
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def majority(official):
    """object (N,): the name, of CLASSES or OTHERS, that more than half of the annotators gave.

    official: rows of fer2013.csv, int (N,), -1 where unknown. "" where there is no majority.
    """
    official, table = np.asarray(official), votes()
    counts = table.to_numpy()[official]
    names = np.array(table.columns, dtype=object)[counts.argmax(axis=1)]
    clear = 2 * counts.max(axis=1) > counts.sum(axis=1)
    return np.where(clear & (official >= 0), names, "")
