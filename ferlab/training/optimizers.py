"""The optimizers of `train.optimizer`, with decoupled weight decay (all but Adam)."""


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
    """Keras' Muon (Jordan 2024) for convolutions too, whose kernels it takes as matrices.

    A kernel (h, w, in, out) is updated as a matrix (h w in, out), by a step as large as Adam's (Liu
    et al. 2025, arXiv:2502.16982). Biases, normalisation and the last layer are left to AdamW.
    """
    from keras import ops

    class Muon(keras.optimizers.Muon):
        def _should_use_adamw(self, variable):
            return len(variable.shape) not in (2, 4) or "logits" in variable.path

        def zeropower_via_newtonschulz5(self, x, steps):
            matrix = ops.cast(ops.reshape(x, (-1, x.shape[-1])), params.precision)
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
