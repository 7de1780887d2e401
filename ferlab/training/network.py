"""The network in training, compiled for one size of faces; taking and restoring its state."""

import functools
import hashlib
import time

import numpy as np

from ferlab import models
from ferlab.data.dataset import SIZE
from ferlab.files import UserError
from ferlab.training import backend, batches, optimizers

REPEATS = 4  # of one step, to see whether this machine gives the same bits each time


def to_logits(model):
    """`model` without its softmax, sharing its layers and weights."""
    import keras

    return keras.Model(model.input, model.get_layer("logits").output)


def compiled(evaluation_model, params, side, frozen=False):
    """The network from faces (batch, side, side, 1) to logits, ready to train.

    evaluation_model: the same for faces of full size, whose weights it gets, and which it is where
    `side` is that size. frozen: only the last layer learns. Its optimizer is new. Raises UserError
    where the network's weights depend on the size of the faces.
    """
    import keras

    model = evaluation_model
    if side != SIZE:
        classes = evaluation_model.output.shape[-1]
        model = fused(to_logits(models.build(params.model, classes, params.dropout, side)))
        if [w.shape for w in model.weights] != [w.shape for w in evaluation_model.weights]:
            raise UserError(
                f"train.low_resolution = {params.low_resolution:g}: the network {params.model} "
                f"takes no faces of {side}x{side}; set it to 0"
            )
        model.set_weights(evaluation_model.get_weights())
    for layer in model.layers:
        layer.trainable = not frozen or layer.name == "logits"
    model.compile(
        optimizers.build(keras, params),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=params.label_smoothing
        ),
        metrics=["accuracy"],
        # TensorFlow's XLA was 4 to 8 times slower on a CPU
        jit_compile=keras.backend.backend() == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    return model


def fused(model):
    """A copy of `model` in which TensorFlow's fused kernel normalises; it shares no weights.

    Keras computes batch normalisation by operations of its own, which read and write the
    activations several times, in float32; FusedBatchNormV3 does it at once, to the same values but
    for the last bits. Layers that the kernel does not know (another axis, masks, renormalisation,
    other inputs than images), and all layers on other backends, stay Keras' own.
    """
    import keras

    def copied(layer):
        kind = type(layer)
        if kind is keras.layers.BatchNormalization and _is_fusable(keras, layer):
            kind = _fused_batch_normalization(keras)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


def _is_fusable(keras, layer):
    images = layer.input_spec is not None and layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    usual = layer.scale and layer.center and not layer.renorm and not layer.synchronized
    return keras.backend.backend() == "tensorflow" and images and usual


@functools.cache
def _fused_batch_normalization(keras):
    """The class of the fused layer: Keras' own but for its arithmetic."""
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            if mask is not None:
                return super().call(inputs, training=training, mask=mask)
            training = bool(training and self.trainable)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=tf.cast(inputs, self.compute_dtype),
                scale=tf.cast(self.gamma, "float32"),
                offset=tf.cast(self.beta, "float32"),
                mean=tf.zeros([0]) if training else tf.cast(self.moving_mean, "float32"),
                variance=tf.zeros([0]) if training else tf.cast(self.moving_variance, "float32"),
                epsilon=self.epsilon,
                is_training=training,
            )
            if training:
                # the kernel gives n / (n - 1) times the variance that Keras keeps
                count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
                variance *= (count - 1) / count
                for kept, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                    kept.assign(kept * self.momentum + new * (1 - self.momentum))
            return outputs

    return FusedBatchNormalization


def optimizer_state(model):
    """Copies of all variables of the model's optimizer: momenta, step count, learning rate."""
    return [np.array(variable) for variable in model.optimizer.variables]


def restore(model, weights, optimizer_state):
    """Put a compiled model back to these weights and this state of its optimizer."""
    model.set_weights(weights)
    for variable, value in zip(model.optimizer.variables, optimizer_state, strict=True):
        variable.assign(value)


def seed_dropout(model, seed, epoch):
    """Put each layer's random stream at the start of this epoch."""
    for index, layer in enumerate(model._flatten_layers()):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            key = np.random.SeedSequence((seed, epoch, batches.DROPOUT, index))
            state = key.generate_state(2)
            generator.state.assign(state.astype(generator.state.dtype))


def is_deterministic(model, batch, seed, epoch):
    """Whether one step, taken REPEATS times, gives the same bits; leaves the model as it was.

    Deterministic operations do not ensure it: on some processors, oneDNN's convolutions in float32
    differ in the last bit from about 256 faces on.
    """
    weights, state, digests = model.get_weights(), optimizer_state(model), set()
    for _ in range(REPEATS):
        seed_dropout(model, seed, epoch)
        backend.step(model, *batch)
        after = [*model.get_weights(), *optimizer_state(model)]
        digests.add(hashlib.sha256(b"".join(array.tobytes() for array in after)).digest())
        restore(model, weights, state)
    return len(digests) == 1


def slowdown_of_bfloat16(seconds=1.0):
    """How many times as long a convolution takes in bfloat16 as in float32, here and now.

    Keras must be started. seconds: for how long each is repeated, at least once.
    """
    import keras

    times = {}
    for precision in ("float32", "bfloat16"):
        faces = keras.ops.ones((8, 24, 24, 32), precision)
        kernel = keras.ops.ones((3, 3, 32, 64), precision)
        began, runs = time.perf_counter(), 0
        while not runs or time.perf_counter() - began < seconds:
            np.asarray(keras.ops.cast(keras.ops.conv(faces, kernel, padding="same"), "float32"))
            runs += 1
        times[precision] = (time.perf_counter() - began) / runs
    return times["bfloat16"] / times["float32"]
