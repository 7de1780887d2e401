"""Asking a trained network: faces -> probabilities -> table of predictions.

Cost on two cores, small network: 0.5 s per 1,000 images and view.
"""

import numpy as np
import pandas as pd

from ferlab.evaluation import tables
from ferlab.evaluation.network.about import prepare


def predict(model, faces, flip=False, shift=0, batch=512):
    """Class probabilities float32 (N, C) of faces uint8 (N, 48, 48).

    With `flip` they are the mean over each face and its mirror image; with `shift` also over the
    face moved by that many pixels towards each corner (ten views with both). Batches are all of one
    size (the last is filled up with zeros), so that a compiling backend compiles once.
    """
    batch = max(1, min(batch, len(faces)))
    probabilities = np.zeros((len(faces), model.output_shape[-1]), np.float32)
    for start in range(0, len(faces), batch):
        part = prepare(model, np.asarray(faces[start : start + batch]))[..., None]
        full = np.zeros((batch, *part.shape[1:]), part.dtype)
        full[: len(part)] = part
        views = [np.asarray(model.predict_on_batch(view)) for view in _views(full, flip, shift)]
        probabilities[start : start + batch] = (sum(views) / len(views))[: len(part)]
    return probabilities


def _views(faces, flip, shift):
    """The faces, their mirror images, and all these moved diagonally; the edge is repeated."""
    height, width = faces.shape[1:3]
    padded = np.pad(faces, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corners = [(y, x) for y in (0, 2 * shift) for x in (0, 2 * shift)] if shift else []
    for y, x in [(shift, shift), *corners]:
        view = padded[:, y : y + height, x : x + width]
        yield view
        if flip:
            yield view[:, :, ::-1]


def measure(network, dataset, settings):
    """(table of predictions, more): whatever evaluation needs of a network.

    settings: params.Evaluate. Training images are predicted as they are, being a reference only,
    augmented ones not at all; the others, and further sets, with the declared views. more:
    {"left_out": {set: {reason: images}}, "robustness": rows of robustness.measure}.
    """
    from ferlab.data.readers import extra
    from ferlab.evaluation import robustness

    views = {"flip": settings.flip, "shift": settings.shift}
    # first: a wrong path is reported before the work
    further = [extra.read(entry, dataset.classes) for entry in settings.extra_datasets]
    probabilities = np.zeros((len(dataset.faces), len(dataset.classes)), np.float32)
    train = (dataset.table["split"] == "train").to_numpy()
    original = (dataset.table["origin"] == "original").to_numpy()
    for rows, options in ((train & original, {}), (~train, views)):
        probabilities[rows] = predict(network, dataset.faces[rows], **options)
    parts, more = [tables.of_dataset(dataset, probabilities)], {}
    for faces in further:
        table, left_out = _further(faces, predict(network, faces.faces, **views), dataset.classes)
        parts.append(table)
        more.setdefault("left_out", {})[faces.name] = left_out
    if settings.robustness:
        last = dataset.split(tables.final(dataset.table["split"].unique()))
        rows = robustness.measure(
            lambda faces: predict(network, faces, **views).argmax(axis=1), last.faces, last.labels
        )
        more["robustness"] = rows.round(6).to_dict("records")
    return pd.concat(parts, ignore_index=True), more


def _further(faces, probabilities, classes):
    """Table of a further set in the network's classes, and what was left out: {reason: images}."""
    labels = pd.Series(faces.labels)
    if tables.MERGE[0] not in classes:
        labels = labels.replace(*tables.MERGE)
    known = labels.isin(classes).to_numpy()
    left_out = dict(faces.left_out)
    for name, count in labels[~known].value_counts().sort_index().items():
        left_out[f"of the class {name}, which this network does not have"] = int(count)
    rows = pd.DataFrame(
        {
            "id": faces.ids,
            "split": faces.name,
            "label": labels,
            "official": -1,
            "group": faces.groups,
        }
    )[known]
    return tables.make(rows, probabilities[known], classes), left_out
