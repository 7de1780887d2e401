"""A residual network with pre-activation (He et al. 2016, arXiv:1603.05027); 2,761,895 parameters.

Three stages of two residual blocks, 64, 128 and 256 filters. A 1x1 convolution takes the shortcut
where the shape changes.
"""

from keras import Input, layers

from ferlab.models import classifier_head


def _activate(x):
    """Batch normalisation -> ReLU."""
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _residual(x, filters, stride):
    """Two pre-activated 3x3 convolutions and a shortcut around them.

    (batch, h, w, n) -> (batch, h / stride, w / stride, filters).
    """
    activated = _activate(x)
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, stride, padding="same", use_bias=False)(activated)
    x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(activated)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(_activate(x))
    return layers.Add()([shortcut, x])


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, padding="same", use_bias=False)(x))
    for filters, stride in ((64, 1), (128, 2), (256, 2)):
        for step in range(2):
            x = _residual(x, filters, stride if step == 0 else 1)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(_activate(x)))
    return classifier_head(inputs, x, classes)
