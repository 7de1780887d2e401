"""Where a network looks: evidence for a class by place, occlusion, feature maps."""

import functools

import cv2
import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.evaluation.network.about import prepare
from ferlab.files import UserError

PATCH, STRIDE = 10, 4  # pixels: of the square that hides a part of the face, and of its steps
GRAY = 128
POOLED = ("GlobalAveragePooling2D", "GlobalAveragePooling1D", "Flatten")


def last_maps(network):
    """The last tensor of a Keras network that still has places.

    Its shape is (N, height, width, channels), or (N, tokens, channels).
    """
    for layer in reversed(network.layers):
        if type(layer).__name__ in POOLED:
            return layer.input
    raise UserError(
        "the network has no global pooling and no Flatten layer, so there is no last map to look at"
    )


def hires_cam(network, faces, classes):
    """Where the evidence for a class stands, float32 (N, 48, 48) from 0 to 1 (HiResCAM).

    At the last layer that has places, activation times gradient of the class's logit, summed over
    channels (Draelos & Carin 2020, arXiv:2011.08891). Where pooling is global this is Grad-CAM;
    for networks that flatten, Grad-CAM averages the gradient over places and shows evidence where
    the network does not look. faces: uint8 (N, 48, 48). classes: int (N,).
    """
    import keras

    front, rest = _halves(network)
    maps = front.predict_on_batch(prepare(network, faces)[..., None])
    maps = np.asarray(maps, np.float32)
    slopes = _gradient(keras, rest, maps, classes)
    if maps.ndim == 3:  # tokens of a square grid
        side = round(maps.shape[1] ** 0.5)
        maps, slopes = (array.reshape(len(array), side, side, -1) for array in (maps, slopes))
    evidence = np.maximum((slopes * maps).sum(axis=3), 0)
    size = (SIZE, SIZE)
    heat = np.stack([cv2.resize(face, size, interpolation=cv2.INTER_CUBIC) for face in evidence])
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
    """Of the logit of each face's class with respect to what enters `rest`, float32."""
    rows = np.arange(len(values))
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        given = tf.convert_to_tensor(values)
        with tf.GradientTape() as tape:
            tape.watch(given)
            asked = tf.gather(rest(given, training=False), classes, axis=1, batch_dims=1)
        return tape.gradient(asked, given).numpy().astype(np.float32)
    if name == "jax":
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
    """How much probability of a class is lost when a gray square hides a place, (N, 48, 48).

    Negative where hiding helps (Zeiler & Fergus 2013, arXiv:1311.2901). predict: function from
    faces uint8 (M, 48, 48) to probabilities (M, C). Each pixel is the mean over the squares on it.
    """
    starts = range(0, SIZE - PATCH + STRIDE, STRIDE)
    corners = [(y, x) for y in starts for x in starts]
    losses = np.zeros(faces.shape, np.float32)
    for row, (face, index) in enumerate(zip(faces, classes, strict=True)):
        hidden = np.repeat(face[None], len(corners), axis=0)
        for copy, (y, x) in zip(hidden, corners, strict=True):
            copy[y : y + PATCH, x : x + PATCH] = GRAY
        probabilities = predict(np.concatenate([face[None], hidden]))[:, index]
        squares = np.zeros(face.shape)
        for (y, x), lost in zip(corners, probabilities[0] - probabilities[1:], strict=True):
            losses[row, y : y + PATCH, x : x + PATCH] += lost
            squares[y : y + PATCH, x : x + PATCH] += 1
        losses[row] /= np.maximum(squares, 1)
    return losses


def feature_maps(network, face, layers):
    """{layer: float32 (height, width, channels)} of one face uint8 (48, 48).

    layers: names, or "pools": each max-pooling. Raises UserError for a layer without maps.
    """
    import keras

    spatial = [layer.name for layer in network.layers[1:] if len(layer.output.shape) == 4]
    if layers == "pools":
        layers = [name for name in spatial if "pool" in name] or spatial[:3]
    for name in layers:
        if name not in spatial:
            known = ", ".join(spatial)
            raise UserError(
                f"explain.layers: the network has no layer {name!r} with maps; it has {known}"
            )
    outputs = [network.get_layer(name).output for name in layers]
    batch = prepare(network, face)[None, ..., None]
    maps = keras.Model(network.input, outputs).predict_on_batch(batch)
    maps = maps if isinstance(maps, list) else [maps]
    return {
        name: np.asarray(values[0], np.float32) for name, values in zip(layers, maps, strict=True)
    }
