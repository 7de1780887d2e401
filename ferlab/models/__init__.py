"""Networks by name: each file here is one network with `build(classes, dropout)`. Adding one is adding a file.

Every network takes uint8 gray faces (batch, 48, 48, 1), scales them itself, and ends in a layer `logits` (batch, classes)
followed by softmax probabilities in float32, so that a saved model can be used without knowing how it was trained.
"""

import importlib

SHAPE = (48, 48, 1)


def build(name, classes, dropout):
    """The Keras model of ferlab/models/<name>.py for `classes` outputs; weights are fresh (set the seed before)."""
    return importlib.import_module(f"ferlab.models.{name}").build(classes, dropout)


def ends(inputs, features, classes):
    """Close a network: features (batch, n) -> logits -> probabilities, both float32 whatever the precision inside."""
    import keras

    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(features)
    return keras.Model(inputs, keras.layers.Softmax(dtype="float32", name="probabilities")(logits))
