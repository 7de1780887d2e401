"""The network of Silva 2025, layer for layer: three blocks Conv-Conv-MaxPool-Dropout, dense 256; 1,468,135 parameters."""

from keras import Input, layers

from ferlab.models import SHAPE, ends


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(x))
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    return ends(inputs, layers.Dropout(dropout)(x), classes)
