"""ResNet-like (He et al. 2016, arXiv:1603.05027): three stages of two pre-activated residual blocks.

A 1x1 convolution takes the shortcut where the shape changes.
"""

from keras import Input, layers

from ferlab.models import SHAPE, ends


def activate(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def residual(x, filters, stride):
    before = activate(x)
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, stride, padding="same", use_bias=False)(before)
    x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(before)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(activate(x))
    return layers.Add()([shortcut, x])


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, padding="same", use_bias=False)(x))
    for filters, stride in ((64, 1), (128, 2), (256, 2)):
        for step in range(2):
            x = residual(x, filters, stride if step == 0 else 1)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(activate(x)))
    return ends(inputs, x, classes)
