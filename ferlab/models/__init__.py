"""Networks by name: one a file, `build(classes, dropout, side)`; to add a network, add a file.

Every network takes gray faces, uint8 (batch, side, side, 1), and scales them itself. It ends in a
layer `logits`, float32 (batch, classes), and its softmax, so a saved model can be used without
knowing how it was trained. Knows no dataset.
"""

import importlib

from ferlab.files import UserError

SHAPE = (48, 48, 1)  # of a face, as networks are saved and used; training may begin on smaller ones


def build(name, classes, dropout, side=SHAPE[0]):
    """The Keras model of ferlab/models/<name>.py: faces -> probabilities (batch, classes).

    side: of the faces, in pixels; in networks with Flatten the shape of the weights depends on it.
    dropout: share of units dropped, 0 to below 1. Weights are fresh: set the seed first.
    """
    return importlib.import_module(f"ferlab.models.{name}").build(classes, dropout, side)


def set_pretrained(name, model):
    """Put published weights into a fresh model of `build(name, ...)`, but for the last layer.

    Raises UserError where the network has none, or where they are not installed.
    """
    module = importlib.import_module(f"ferlab.models.{name}")
    if not hasattr(module, "set_pretrained"):
        raise UserError(
            f"train.initial = 'imagenet': there are no such weights for the network {name}; "
            "set train.initial: random, or train.model: efficientnet_lite0"
        )
    module.set_pretrained(model)


def conv_block(x, filters, pool=False):
    """3x3 convolution -> max-pooling if `pool` -> batch normalisation -> ReLU.

    x: images (batch, side, side, channels). `small` says why pooling comes first.
    """
    from keras import layers

    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    if pool:
        x = layers.MaxPooling2D()(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def classifier_head(inputs, features, classes):
    """The Keras model from `inputs` over `features` (batch, n) to probabilities (batch, classes).

    Logits and probabilities are float32, whatever the precision of the layers before them.
    """
    import keras

    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(features)
    return keras.Model(inputs, keras.layers.Softmax(dtype="float32", name="probabilities")(logits))
