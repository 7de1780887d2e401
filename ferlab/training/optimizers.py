"""The optimizers of `train.optimizer`, with decoupled weight decay (all but Adam)."""

import math


def build(keras, params):
    """A new Keras optimizer as the train section says; biases and normalisation do not decay."""
    if params.optimizer == "adam":
        return keras.optimizers.Adam(params.learning_rate)
    if params.optimizer == "muon":
        return muon(keras, params)
    if params.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    else:
        optimizer = keras.optimizers.SGD(
            params.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=params.weight_decay or None,
        )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def muon(keras, params):
    """Keras' Muon (Jordan 2024) for all kernels that are matrices in another shape, too.

    A kernel is updated as the matrix of `_matrix_shape`, by a step as large as Adam's (Liu et al.
    2025, arXiv:2502.16982). All else is left to AdamW.
    """
    from keras import ops

    products = keras.config.dtype_policy().compute_dtype  # float32 or bfloat16

    class Muon(keras.optimizers.Muon):
        def _should_use_adamw(self, variable):
            return _matrix_shape(variable.path, variable.shape) is None

        def build(self, variables):
            super().build(variables)
            self._shapes = [_matrix_shape(variable.path, variable.shape) for variable in variables]

        def _muon_update_step(self, gradient, variable, lr, m):
            self._shape = self._shapes[self._get_variable_index(variable)]  # for the product
            super()._muon_update_step(gradient, variable, lr, m)

        def zeropower_via_newtonschulz5(self, x, steps):
            matrix = ops.cast(ops.reshape(x, self._shape), products)
            update = ops.cast(super().zeropower_via_newtonschulz5(matrix, steps), x.dtype)
            return ops.reshape(super().lr_adjust(update), x.shape)

        def lr_adjust(self, x):
            return x  # done above, where it is still a matrix

    optimizer = Muon(
        params.learning_rate,
        weight_decay=params.weight_decay,
        adam_weight_decay=params.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _matrix_shape(path, shape):
    """The (inputs, outputs) of the matrix that a kernel is, or None where AdamW is to update it.

    path, shape: of the Keras variable. None: biases, normalisation, the last layer, and depthwise
    kernels (h, w, channels, 1), each of which sees one channel.
    """
    rank = len(shape)
    if rank < 2 or "logits" in path or shape[-1] == 1:
        return None
    if rank == 3 and "attention_output" not in path:
        return shape[0], shape[1] * shape[2]  # query, key, value: (width, heads, width of a head)
    return math.prod(shape[:-1]), shape[-1]  # (h, w, in, out), or (heads, width of a head, width)
