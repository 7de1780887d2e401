"""The network of `fourlayer_2025` before it was regularised; 979,719 parameters.

Four 3x3 convolutions of 32 to 256 filters ("three inner and an outer one"), each max-pooled, then a
dense layer of 256. No batch normalisation; the recipe sets dropout to 0.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128, 256):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(x))
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    return classifier_head(inputs, layers.Dropout(dropout)(x), classes)
