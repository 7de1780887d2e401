"""Three inner convolutions and an outer one, 3x3 and max-pooled, then a dense layer; batch normalisation and dropout
after each: "four-layer architecture", with what the text added against overfitting.
"""

from keras import Input, layers

from ferlab.models import SHAPE, ends


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64, 128, 256):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
        x = layers.Dropout(dropout)(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    x = layers.Dense(256, use_bias=False)(layers.Flatten()(x))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return ends(inputs, layers.Dropout(dropout)(x), classes)
