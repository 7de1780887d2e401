"""A small vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929); 1,280,759 parameters.

Six blocks of width 128. Three strided convolutions make 36 tokens of a face (Xiao et al. 2021,
arXiv:2106.14881): with one 6x6 convolution instead, and AdamW, the network reached 25 % on FER2013
after three epochs, the share of the largest class. A depthwise convolution over the tokens encodes
their position (Chu et al. 2021, arXiv:2102.10882), which needs no layer of our own in the saved
file. The mean of the tokens is classified; there is no class token. ReLU replaces GELU, whose exact
form costs a quarter of the images per second on two cores.
"""

from keras import Input, layers

from ferlab.models import classifier_head

WIDTH, BLOCKS, HEADS = 128, 6, 4


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (48, 96):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Conv2D(WIDTH, 2, strides=2)(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.Reshape((-1, WIDTH))(x)
    for _ in range(BLOCKS):
        normalised = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, use_bias=False)(
            normalised, normalised
        )
        x = layers.Add()([x, attention])
        hidden = layers.Dense(4 * WIDTH, activation="relu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dropout(dropout)(layers.Dense(WIDTH)(hidden))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return classifier_head(inputs, layers.Dropout(dropout)(x), classes)
