"""What a network gets wrong, and which labels may be wrong."""

import numpy as np
import pandas as pd

from ferlab.evaluation import calibration, tables

LOW_PROBABILITY = 0.1  # a label that the network gives less than this may be wrong


def errors(rows):
    """One line per class, of one split's rows.

    Columns: class, images, wrong (share), mostly called (the commonest wrong class), of its errors
    (that class's share), sure when wrong (mean confidence).
    """
    return pd.DataFrame(
        [_errors_of(name, rows[rows["label"] == name]) for name in tables.classes_of(rows)]
    )


def _errors_of(name, rows):
    wrong = rows[rows["predicted"] != name]
    called = wrong["predicted"].value_counts()
    return {
        "class": name,
        "images": len(rows),
        "wrong": len(wrong) / max(len(rows), 1),
        "mostly called": called.index[0] if len(called) else "",
        "of its errors": called.iloc[0] / len(wrong) if len(called) else 0.0,
        "sure when wrong": float(calibration.confidence(wrong).mean()) if len(wrong) else 0.0,
    }


def label_issues(table):
    """Labels of any split that got less than a tenth of the probability, the surest mistake first.

    Columns id, split, label, predicted, share (of the predicted class), given (to the label).
    """
    probabilities = tables.probabilities(table)
    labels = pd.Index(tables.classes_of(table)).get_indexer(table["label"])
    given = probabilities[np.arange(len(table)), labels]
    issues = table[["id", "split", "label", "predicted"]].assign(
        share=probabilities.max(axis=1), given=given
    )
    return _surest_first(issues[given < LOW_PROBABILITY]).reset_index(drop=True)


def examples(rows):
    """{"right": rows, "wrong": rows}: for each class its surest hit and its surest mistake."""
    surest = _surest_first(rows.assign(share=calibration.confidence(rows)))
    right = surest["label"] == surest["predicted"]
    return {
        name: part.drop_duplicates("label").sort_values("label")
        for name, part in (("right", surest[right]), ("wrong", surest[~right]))
    }


def worst(table, count):
    """The `count` surest mistakes of the final split: its rows, and `share`, their confidence."""
    parts = tables.parts(table)
    rows = parts[tables.final(parts)]
    rows = rows[rows["label"] != rows["predicted"]]
    return _surest_first(rows.assign(share=calibration.confidence(rows))).head(count)


def _surest_first(rows):
    return rows.sort_values(["share", "id"], ascending=[False, True])
