"""The mean of several recipes' probabilities."""

import numpy as np

from ferlab import recipes
from ferlab.evaluation import tables
from ferlab.files import UserError


def ensemble(dataset, settings):
    """The mean probabilities of the keys `members`, from their committed results: evaluation images only."""
    if not settings.members:
        raise UserError("anchor.members: an ensemble needs the keys of at least one result")
    found, weights = np.zeros((len(dataset.faces), len(dataset.classes)), np.float32), 0
    for key in settings.members:
        table = tables.of_recipe(key).set_index("id")
        columns = [f"p_{name}" for name in dataset.classes]
        if not set(columns) <= set(table):
            raise UserError(
                f"anchor.members: {key} has other classes than {', '.join(dataset.classes)}"
            )
        found += table.reindex(dataset.table["id"])[columns].to_numpy(np.float32) / len(
            settings.members
        )
        weights += recipes.read_result(key)[1]["model"]["parameters"]
    return found, weights
