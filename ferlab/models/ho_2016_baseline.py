"""The first try of Jostine Ho, "Facial Emotion Recognition" (2016); 120,326 parameters.

Three 3x3 convolutions of 32, 64 and 128 filters, each max-pooled. Pixels stay as they are, 0 to
255, so the loss begins in the hundreds. Six classes.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1.0)(inputs)  # only makes floats of bytes
    for filters in (32, 64, 128):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return classifier_head(inputs, layers.Dropout(dropout)(layers.Flatten()(x)), classes)
