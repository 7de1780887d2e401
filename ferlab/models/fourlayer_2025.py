"""The four-layer network of "Facial Emotion Recognition" (2025), regularised; 981,927 parameters.

Four 3x3 convolutions of 32 to 256 filters ("three inner and an outer one"), each max-pooled, then a
dense layer of 256. Batch normalisation and dropout, which the text added against overfitting,
follow each of the five.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128, 256):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
        x = layers.Dropout(dropout)(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    x = layers.Dense(256, use_bias=False)(layers.Flatten()(x))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return classifier_head(inputs, layers.Dropout(dropout)(x), classes)
