"""What a network gets wrong, and which labels may be wrong."""

import numpy as np
import pandas as pd

from ferlab.evaluation import calibration, tables

LOW_PROBABILITY = 0.1  # a label that the network gives less than this is a candidate for noise


def errors(rows):
    """One line per class: images, wrong (share), mostly called (the commonest wrong name), sure (mean confidence when wrong)."""
    lines = []
    for name in tables.classes_of(rows):
        mine = rows[rows["label"] == name]
        wrong = mine[mine["predicted"] != name]
        called = wrong["predicted"].value_counts()
        lines.append(
            {
                "class": name,
                "images": len(mine),
                "wrong": len(wrong) / max(len(mine), 1),
                "mostly called": called.index[0] if len(called) else "",
                "of its errors": called.iloc[0] / len(wrong) if len(called) else 0.0,
                "sure when wrong": float(calibration.confidence(wrong).mean())
                if len(wrong)
                else 0.0,
            }
        )
    return pd.DataFrame(lines)


def label_issues(predictions):
    """Candidates for wrong labels, of all splits: the label got less than a tenth, the most doubtful first.

    Columns id, split, label, predicted, share (of the predicted class), given (to the label).
    """
    classes = tables.classes_of(predictions)
    chances = calibration.probabilities(predictions)
    given = chances[
        np.arange(len(predictions)), pd.Index(classes).get_indexer(predictions["label"])
    ]
    table = predictions[["id", "split", "label", "predicted"]].assign(
        share=chances.max(axis=1), given=given
    )
    return (
        table[given < LOW_PROBABILITY]
        .sort_values(["share", "id"], ascending=[False, True])
        .reset_index(drop=True)
    )


def examples(rows):
    """{"right": rows, "wrong": rows}: of each class the face it is surest of, rightly and wrongly, of one split's rows."""
    surest = rows.assign(share=calibration.confidence(rows)).sort_values(
        ["share", "id"], ascending=[False, True]
    )
    right = surest["label"] == surest["predicted"]
    return {
        name: part.drop_duplicates("label").sort_values("label")
        for name, part in (("right", surest[right]), ("wrong", surest[~right]))
    }


def worst(predictions, count):
    """The `count` most confident mistakes of the final split: its rows, and `share`, the wrong class's probability."""
    parts = tables.parts(predictions)
    rows = parts[tables.final(parts)]
    rows = rows[rows["label"] != rows["predicted"]]
    highest = rows[[f"p_{name}" for name in tables.classes_of(rows)]].max(axis=1)
    return (
        rows.assign(share=highest).sort_values(["share", "id"], ascending=[False, True]).head(count)
    )
