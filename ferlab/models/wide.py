"""For a long training: 3.1 M parameters, 256 M multiply-adds a face.

Ten 3x3 convolutions like `medium`, at four thirds of its width; each stage costs the same. Dropout
after each, since long training otherwise learns the training faces by heart.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def _block(x, filters, pool=False):
    """3x3 convolution -> max-pooling if `pool` -> batch normalisation -> ReLU."""
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    if pool:
        x = layers.MaxPooling2D()(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (64, 128, 256):
        x = _block(x, filters, pool=True)
        x = layers.Add()([x, _block(_block(x, filters), filters)])
        x = layers.Dropout(dropout)(x)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(_block(x, 512)))
    return classifier_head(inputs, x, classes)
