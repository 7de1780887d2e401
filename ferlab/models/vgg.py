"""VGG-like (Simonyan & Zisserman 2014, arXiv:1409.1556); 1,767,207 parameters.

Four pairs of 3x3 convolutions of 32 to 256 filters with batch normalisation, each pair max-pooled,
then a dense layer of 256, normalised too.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (32, 64, 128, 256):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    x = layers.Dense(256, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return classifier_head(inputs, layers.Dropout(dropout)(x), classes)
