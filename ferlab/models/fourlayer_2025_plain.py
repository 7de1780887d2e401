"""Three inner convolutions and an outer one, 3x3 and max-pooled, then a dense layer: the text's network before it was
regularised, without batch normalisation (and, with dropout 0, without dropout).
"""

from keras import Input, layers

from ferlab.models import SHAPE, ends


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128, 256):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(x))
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    return ends(inputs, layers.Dropout(dropout)(x), classes)
