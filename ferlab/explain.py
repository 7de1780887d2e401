"""Why a network says what it says, and how far its probabilities can be trusted: arrays and tables, no figure, no file.

Only `last_maps`, `grad_cam`, `occlusion` and `feature_maps` need a network; the rest works on a table of predictions.
"""

import functools

import numpy as np
import pandas as pd

from ferlab import evaluation
from ferlab.dataset import SIZE
from ferlab.files import UserError

BINS = 10
PATCH, STRIDE = 10, 4  # pixels: of the square that hides a part of the face, and of its steps
GRAY = 128
DOUBTED = 0.1  # a label that the network gives less than this is a candidate for noise
POOLED = ("GlobalAveragePooling2D", "GlobalAveragePooling1D", "Flatten")


# ---- what the network looks at --------------------------------------------------------------------------------------

def last_maps(network):
    """The last tensor of a Keras network that still has places: (height, width, channels), or tokens (n, channels)."""
    for layer in reversed(network.layers):
        if type(layer).__name__ in POOLED:
            return layer.input
    raise UserError("the network has no global pooling and no Flatten layer, so there is no last map to look at")


def grad_cam(network, faces, classes):
    """Where the evidence for a class stands, float32 (n, 48, 48) from 0 to 1: Grad-CAM (Selvaraju et al. 2017,
    arXiv:1610.02391) at the last layer that has places.

    faces: uint8 (n, 48, 48). classes: int (n,), whose logit is asked about.
    """
    import cv2
    import keras

    front, rest = _halves(network)
    values = front.predict_on_batch(evaluation.prepare(network, faces)[..., None])
    slopes = _gradient(keras, rest, np.asarray(values, np.float32), classes)
    values = np.asarray(values, np.float32)
    if values.ndim == 3:  # tokens of a square grid
        side = round(values.shape[1] ** 0.5)
        values, slopes = (array.reshape(len(array), side, side, -1) for array in (values, slopes))
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    heat = np.maximum((weights * values).sum(axis=3), 0)
    heat = np.stack([cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for one in heat])
    return np.clip(heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-9), 0, 1)


@functools.lru_cache(4)  # Keras keeps every model that was ever made of a network's layers
def _halves(network):
    """The networks from faces to the last maps, and from these to the logits."""
    import keras

    maps = last_maps(network)
    if "logits" not in {layer.name for layer in network.layers}:
        raise UserError("the network has no layer named logits, whose gradient shows where it looks")
    return keras.Model(network.input, maps), keras.Model(maps, network.get_layer("logits").output)


def _gradient(keras, rest, values, classes):
    """Of the logit of each face's class, with respect to what enters `rest`: float32, of the shape of `values`."""
    rows = np.arange(len(values))
    kind = keras.backend.backend()
    if kind == "tensorflow":
        import tensorflow as tf

        given = tf.convert_to_tensor(values)
        with tf.GradientTape() as tape:
            tape.watch(given)
            asked = tf.gather(rest(given, training=False), classes, axis=1, batch_dims=1)
        return tape.gradient(asked, given).numpy().astype(np.float32)
    if kind == "jax":
        import jax

        def asked(given):
            return rest.stateless_call(rest.trainable_variables, rest.non_trainable_variables, given,
                                       training=False)[0][rows, classes].sum()

        return np.asarray(jax.grad(asked)(values), np.float32)
    import torch

    given = torch.tensor(values, requires_grad=True)
    rest(given, training=False)[rows, classes].sum().backward()
    return given.grad.numpy()


def occlusion(predict, faces, classes):
    """How much of the class's probability is lost when a gray square hides a place: float32 (n, 48, 48), negative where
    hiding helps (Zeiler & Fergus 2013, arXiv:1311.2901).

    predict: function from faces uint8 (m, 48, 48) to probabilities (m, C). Each pixel is the mean over the squares on it.
    """
    starts = range(0, SIZE - PATCH + STRIDE, STRIDE)
    places = [(y, x) for y in starts for x in starts]
    found = np.zeros(faces.shape, np.float32)
    for row, (face, wanted) in enumerate(zip(faces, classes, strict=True)):
        hidden = np.repeat(face[None], len(places), axis=0)
        for one, (y, x) in zip(hidden, places, strict=True):
            one[y:y + PATCH, x:x + PATCH] = GRAY
        given = predict(np.concatenate([face[None], hidden]))[:, wanted]
        count = np.zeros(face.shape)
        for (y, x), lost in zip(places, given[0] - given[1:], strict=True):
            found[row, y:y + PATCH, x:x + PATCH] += lost
            count[y:y + PATCH, x:x + PATCH] += 1
        found[row] /= np.maximum(count, 1)
    return found


def feature_maps(network, face, layers):
    """{layer: float32 (height, width, channels)} of one face uint8 (48, 48). layers: names, or "pools": each max-pooling."""
    import keras

    spatial = [layer.name for layer in network.layers if len(layer.output.shape) == 4 and layer is not network.layers[0]]
    if layers == "pools":
        layers = [name for name in spatial if "pool" in name] or spatial[:3]
    for name in layers:
        if name not in spatial:
            raise UserError(f"explain.layers: the network has no layer {name!r} with maps; it has {', '.join(spatial)}")
    outputs = [network.get_layer(name).output for name in layers]
    given = keras.Model(network.input, outputs).predict_on_batch(evaluation.prepare(network, face)[None, ..., None])
    given = given if isinstance(given, list) else [given]
    return {name: np.asarray(values[0], np.float32) for name, values in zip(layers, given, strict=True)}


# ---- how far its probabilities can be trusted -----------------------------------------------------------------------

def reliability(rows):
    """Table of a reliability diagram (Guo et al. 2017, arXiv:1706.04599): one line per tenth of confidence that occurs.

    rows: predictions of one split. Columns: low, high, images, confidence (mean), accuracy.
    """
    confidence = _confidence(rows)
    right = (rows["label"] == rows["predicted"]).to_numpy()
    place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    lines = [{"low": one / BINS, "high": (one + 1) / BINS, "images": int((place == one).sum()),
              "confidence": float(confidence[place == one].mean()), "accuracy": float(right[place == one].mean())}
             for one in range(BINS) if (place == one).any()]
    return pd.DataFrame(lines)


def calibration_error(rows):
    """Expected calibration error from 0 to 1: the mean gap of `reliability`, each tenth weighing as many images as it has."""
    table = reliability(rows)
    return float((table["images"] * (table["confidence"] - table["accuracy"]).abs()).sum() / table["images"].sum())


def temperature(rows):
    """The number that the logits are to be divided by, so that these rows become most likely; above 1: overconfident."""
    from scipy.optimize import minimize_scalar

    true = pd.Index(evaluation.classes_of(rows)).get_indexer(rows["label"])

    def loss(log_temperature):
        given = _chances(cooled(rows, np.exp(log_temperature)))
        return -np.log(np.clip(given[np.arange(len(rows)), true], 1e-12, 1)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def cooled(rows, temperature):
    """The same predictions with their logits divided by `temperature`: no chosen class changes, only how sure it is."""
    logits = np.log(np.clip(_chances(rows), 1e-7, 1)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    return rows.assign(**{f"p_{name}": odds[:, index] for index, name in enumerate(evaluation.classes_of(rows))})


def _chances(rows):
    return rows[[f"p_{name}" for name in evaluation.classes_of(rows)]].to_numpy(float)


def _confidence(rows):
    return _chances(rows).max(axis=1)


# ---- what it gets wrong ---------------------------------------------------------------------------------------------

def errors(rows):
    """One line per class: images, wrong (share), mostly called (the commonest wrong name), sure (mean confidence when wrong)."""
    lines = []
    for name in evaluation.classes_of(rows):
        mine = rows[rows["label"] == name]
        wrong = mine[mine["predicted"] != name]
        called = wrong["predicted"].value_counts()
        lines.append({"class": name, "images": len(mine), "wrong": len(wrong) / max(len(mine), 1),
                      "mostly called": called.index[0] if len(called) else "",
                      "of its errors": called.iloc[0] / len(wrong) if len(called) else 0.0,
                      "sure when wrong": float(_confidence(wrong).mean()) if len(wrong) else 0.0})
    return pd.DataFrame(lines)


def doubtful(predictions):
    """Candidates for wrong labels, of all splits: the label got less than a tenth, the most doubtful first.

    Columns id, split, label, predicted, share (of the predicted class), given (to the label).
    """
    classes = evaluation.classes_of(predictions)
    chances = _chances(predictions)
    given = chances[np.arange(len(predictions)), pd.Index(classes).get_indexer(predictions["label"])]
    table = predictions[["id", "split", "label", "predicted"]].assign(share=chances.max(axis=1), given=given)
    return table[given < DOUBTED].sort_values(["share", "id"], ascending=[False, True]).reset_index(drop=True)


def examples(rows):
    """{"right": rows, "wrong": rows}: of each class the face it is surest of, rightly and wrongly, of one split's rows."""
    surest = rows.assign(share=_confidence(rows)).sort_values(["share", "id"], ascending=[False, True])
    right = surest["label"] == surest["predicted"]
    return {name: part.drop_duplicates("label").sort_values("label") for name, part in
            (("right", surest[right]), ("wrong", surest[~right]))}
