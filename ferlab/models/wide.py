"""For a long training: 3.1 M parameters, 256 M multiply-adds a face.

Ten 3x3 convolutions like `medium`, at four thirds of its width; each stage costs the same. Dropout
after each, since long training otherwise learns the training faces by heart.
"""

from keras import Input, layers

from ferlab.models import classifier_head, conv_block


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (64, 128, 256):
        x = conv_block(x, filters, pool=True)
        x = layers.Add()([x, conv_block(conv_block(x, filters), filters)])
        x = layers.Dropout(dropout)(x)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(conv_block(x, 512)))
    return classifier_head(inputs, x, classes)
