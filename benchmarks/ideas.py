"""What cifar10-airbench (Jordan 2024, arXiv:2404.00498) trains with and the speedrun does not.

`make ablation` puts each into the speedrun, beside what it leaves out. An idea is a context in
which ferlab trains with it.
"""

import functools
import inspect
import re
from contextlib import contextmanager

import numpy as np

from benchmarks import FACES
from ferlab import models
from ferlab.data.dataset import Dataset
from ferlab.training import optimizers


@contextmanager
def _changed(module, name, change):
    """Within it `module.name(...)` gives what it would, after change(it)."""
    original = getattr(module, name)

    def changed(*args, **named):
        result = original(*args, **named)
        change(result)
        return result

    setattr(module, name, changed)
    try:
        yield
    finally:
        setattr(module, name, original)


def _begin_as_identity(model):
    """The first filters of each 3x3 convolution, as many as it has inputs, copy one input each."""
    for layer in model.layers:
        if getattr(layer, "kernel_size", None) == (3, 3):
            kernel = np.array(layer.kernel)
            inputs = kernel.shape[2]
            kernel[..., :inputs] = 0
            kernel[1, 1, :, :inputs] = np.eye(inputs)
            layer.kernel.assign(kernel)


def _whiten_first_layer(model):
    """Its first filters begin as the whitened directions of 3x3 patches of faces, each with
    either sign: 18 of 32, since one gray channel has nine. (airbench keeps such filters as they
    are; here they learn on.)
    """
    layer = next(layer for layer in model.layers if getattr(layer, "kernel_size", None) == (3, 3))
    faces = Dataset.load(FACES).split("train").faces[:2000].astype(np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(faces / 127.5 - 1, (3, 3), axis=(1, 2))
    values, vectors = np.linalg.eigh(np.cov(patches.reshape(-1, 9), rowvar=False))
    filters = (vectors / np.sqrt(values + 1e-3)).reshape(3, 3, 1, 9)
    kernel = np.array(layer.kernel)
    kernel[..., :18] = np.concatenate([filters, -filters], axis=-1)
    layer.kernel.assign(kernel)


def _quicken_normalisation(model):
    """Batch normalisation forgets old means and variances after 2.5 steps, not after ten."""
    for layer in model.layers:
        if hasattr(layer, "moving_mean"):
            layer.momentum = 0.6


def _raise_rate_of_biases(optimizer):
    """What is added in batch normalisation, and in the last layer, learns four times as fast."""
    adamw = optimizer._adamw_update_step

    def update(gradient, variable, rate, *moments):
        is_bias = re.search(r"\b(beta|bias)(:0)?$", variable.name)  # of <layer>/beta:0
        raised = 4 if is_bias else 1
        return adamw(gradient, variable, raised * rate, *moments)

    optimizer._adamw_update_step = update


def _take_three_steps(optimizer):
    optimizer.ns_steps = 3


_CHANGES = {  # idea: (module, function, what is changed of what it gives)
    "3x3 kernels that begin as the identity (dirac)": (models, "build", _begin_as_identity),
    "a first layer that begins by whitening": (models, "build", _whiten_first_layer),
    "batch normalisation's momentum 0.6, not 0.9": (models, "build", _quicken_normalisation),
    "four times the rate for biases": (optimizers, "build", _raise_rate_of_biases),
    "three Newton-Schulz steps in Muon, not five": (optimizers, "build", _take_three_steps),
}
IDEAS = {idea: functools.partial(_changed, *change) for idea, change in _CHANGES.items()}


def source(idea):
    """The code that makes an idea what it is."""
    return inspect.getsource(_CHANGES[idea][2])
