"""Jostine Ho, "Facial Emotion Recognition" (2016; code: mememoji); 1,727,430 parameters.

Nine 3x3 convolutions in three groups of 32, 64 and 128 filters, each group max-pooled, then two
dense layers of 256 with dropout. Six classes.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128):
        for _ in range(3):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(dropout)(layers.Dense(256, activation="relu")(x))
    return classifier_head(inputs, x, classes)
