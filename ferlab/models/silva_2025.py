"""Nathalia Silva, "Facial emotion recognition using convolutional neural network" (2025, slides).

Layer for layer as in her table: three blocks Conv-Conv-MaxPool-Dropout of 32, 64 and 128 filters,
3x3, then a dense layer of 256 with dropout; 1,468,135 parameters.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(x))
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    return classifier_head(inputs, layers.Dropout(dropout)(x), classes)
