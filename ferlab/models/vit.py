"""A small vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): 64 patches of 6x6, width 96, five blocks.

Patches come from one strided convolution; a depthwise convolution over the tokens tells them where they are (Chu et al. 2021,
arXiv:2102.10882), which needs no layer of our own in the saved file; the tokens' mean is classified (no class token).
"""

from keras import Input, layers

from ferlab.models import SHAPE, ends

PATCH, WIDTH, BLOCKS, HEADS = 6, 96, 5, 3


def build(classes, dropout):
    inputs = Input(SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.Conv2D(WIDTH, PATCH, strides=PATCH)(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.Reshape((-1, WIDTH))(x)
    for _ in range(BLOCKS):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)])
        y = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dropout(dropout)(layers.Dense(WIDTH)(y))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return ends(inputs, layers.Dropout(dropout)(x), classes)
