"""Why a network says what it says, and how far its probabilities can be trusted: arrays and tables, no figure, no file.

Only `last_maps`, `grad_cam`, `occlusion` and `feature_maps` need a network; the rest works on a table of predictions.
"""

import functools

import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.evaluation import inference
from ferlab.files import UserError

PATCH, STRIDE = 10, 4  # pixels: of the square that hides a part of the face, and of its steps
GRAY = 128
POOLED = ("GlobalAveragePooling2D", "GlobalAveragePooling1D", "Flatten")


def last_maps(network):
    """The last tensor of a Keras network that still has places: (height, width, channels), or tokens (n, channels)."""
    for layer in reversed(network.layers):
        if type(layer).__name__ in POOLED:
            return layer.input
    raise UserError(
        "the network has no global pooling and no Flatten layer, so there is no last map to look at"
    )


def grad_cam(network, faces, classes):
    """Where the evidence for a class stands, float32 (n, 48, 48) from 0 to 1: Grad-CAM (Selvaraju et al. 2017,
    arXiv:1610.02391) at the last layer that has places.

    faces: uint8 (n, 48, 48). classes: int (n,), whose logit is asked about.
    """
    import cv2
    import keras

    front, rest = _halves(network)
    values = front.predict_on_batch(inference.prepare(network, faces)[..., None])
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
        raise UserError(
            "the network has no layer named logits, whose gradient shows where it looks"
        )
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
            return rest.stateless_call(
                rest.trainable_variables, rest.non_trainable_variables, given, training=False
            )[0][rows, classes].sum()

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
            one[y : y + PATCH, x : x + PATCH] = GRAY
        given = predict(np.concatenate([face[None], hidden]))[:, wanted]
        count = np.zeros(face.shape)
        for (y, x), lost in zip(places, given[0] - given[1:], strict=True):
            found[row, y : y + PATCH, x : x + PATCH] += lost
            count[y : y + PATCH, x : x + PATCH] += 1
        found[row] /= np.maximum(count, 1)
    return found


def feature_maps(network, face, layers):
    """{layer: float32 (height, width, channels)} of one face uint8 (48, 48). layers: names, or "pools": each max-pooling."""
    import keras

    spatial = [
        layer.name
        for layer in network.layers
        if len(layer.output.shape) == 4 and layer is not network.layers[0]
    ]
    if layers == "pools":
        layers = [name for name in spatial if "pool" in name] or spatial[:3]
    for name in layers:
        if name not in spatial:
            raise UserError(
                f"explain.layers: the network has no layer {name!r} with maps; it has {', '.join(spatial)}"
            )
    outputs = [network.get_layer(name).output for name in layers]
    given = keras.Model(network.input, outputs).predict_on_batch(
        inference.prepare(network, face)[None, ..., None]
    )
    given = given if isinstance(given, list) else [given]
    return {
        name: np.asarray(values[0], np.float32) for name, values in zip(layers, given, strict=True)
    }
