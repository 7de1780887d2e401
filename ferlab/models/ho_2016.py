"""The network of Ho 2016: nine convolutions in three groups of three, each group max-pooled, two dense layers of 256."""

from keras import Input, layers

from ferlab.models import SHAPE, ends


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128):
        for _ in range(3):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(dropout)(layers.Dense(256, activation="relu")(x))
    return ends(inputs, x, classes)
