"""The first try of Ho 2016: three convolutions, and pixels as they are, 0 to 255: the loss begins in the hundreds."""

from keras import Input, layers

from ferlab.models import SHAPE, ends


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1.0)(inputs)  # only makes floats of bytes
    for filters in (32, 64, 128):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return ends(inputs, layers.Dropout(dropout)(layers.Flatten()(x)), classes)
