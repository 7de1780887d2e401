"""The mean of several results' probabilities, and which results are worth having in it.

Members are chosen on public alone: added one at a time, each time the candidate that raises public
accuracy most, until none does (Caruana et al. 2004, "Ensemble selection from libraries of models").
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ferlab import recipes
from ferlab.data.dataset import SPLITS
from ferlab.evaluation import tables
from ferlab.files import UserError

SELECT_ON = "public"


@dataclass(frozen=True)
class Ensemble:
    """members: keys in the order they were added. steps: [{"added", "public_accuracy"}], the
    accuracy with all members so far. predictions: the table of their mean probabilities."""

    members: list
    steps: list
    predictions: pd.DataFrame


def ensemble(candidates, selection):
    """The Ensemble of the committed results `candidates` (keys).

    selection: "all", or "greedy" as the module says. Raises UserError where the candidates were
    measured on other data or other images, or know other classes (six-class results make six).
    """
    rows, classes, stacked = _read(candidates)
    labels = pd.Index(classes).get_indexer(rows["label"])
    public = (rows["split"] == SELECT_ON).to_numpy()
    members, steps = [], []
    while len(members) < len(candidates):
        left = [i for i in range(len(candidates)) if i not in members]
        if selection == "all":
            left = left[:1]
        right = [
            stacked[[*members, i]].mean(axis=0)[public].argmax(axis=1) == labels[public]
            for i in left
        ]
        accuracies = [round(float(hits.mean()), 6) for hits in right]
        best = int(np.argmax(accuracies))
        if selection == "greedy" and steps and accuracies[best] <= steps[-1]["public_accuracy"]:
            break
        members.append(left[best])
        steps.append({"added": candidates[left[best]], "public_accuracy": accuracies[best]})
    mean = tables.make(rows, stacked[members].mean(axis=0), classes)
    return Ensemble([candidates[i] for i in members], steps, mean)


def _read(candidates):
    """(rows without predictions, class names, probabilities (members, N, C)) of all candidates."""
    read = {key: tables.of_recipe(key).set_index("id") for key in candidates}
    digests = {key: recipes.read_result(key)[1]["digest"] for key in candidates}
    first = candidates[0]
    for key in candidates:
        if digests[key] != digests[first]:
            raise UserError(f"ensemble.candidates: {key} and {first} are of different data")
    if len({tables.classes_of(table) for table in read.values()}) > 1:
        read = {
            key: tables.fold(table.reset_index()).set_index("id") for key, table in read.items()
        }
    classes = tables.classes_of(read[first])
    # further sets of faces are not the same for all: only FER2013's own splits are averaged
    read = {key: table[table["split"].isin(SPLITS)] for key, table in read.items()}
    for key, table in read.items():
        if tables.classes_of(table) != classes:
            raise UserError(f"ensemble.candidates: {key} has other classes than {first}")
        if set(table.index) != set(read[first].index):
            raise UserError(f"ensemble.candidates: {key} and {first} predict different images")
    rows = read[first].reset_index().loc[:, :"predicted"].drop(columns="predicted")
    stacked = [tables.probabilities(table.loc[rows["id"]]) for table in read.values()]
    return rows, classes, np.stack(stacked)
