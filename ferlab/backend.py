"""Starting Keras: backend, precision and seed, before its first import, and without the noise of the C++ log."""

import os
import sys
from contextlib import contextmanager

from ferlab.files import UserError


def start(backend, precision="float32", seed=0, devices=1):
    """Import Keras 3 on `backend` with deterministic operations and return the module.

    devices: over how many each batch is spread (JAX only). Raises UserError where the backend is not installed or has not that
    many, or where Keras already runs on another one.
    """
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr():
        try:
            if backend == "tensorflow":
                import tensorflow as tf

                tf.config.experimental.enable_op_determinism()
            import keras
        except ImportError as error:
            raise UserError(f"train.backend = {backend!r}: {error.name or backend} is not installed; "
                            f"choose tensorflow or install it") from None
    if keras.backend.backend() != backend:
        raise UserError(f"train.backend = {backend!r}: Keras already runs on {keras.backend.backend()} in this process")
    keras.backend.clear_session()  # layer names, and with them the saved bytes, do not depend on what was built before
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    keras.utils.set_random_seed(seed)
    if devices > 1 or keras.distribution.distribution():
        keras.distribution.set_distribution(_spread(keras, backend, devices) if devices > 1 else None)
    return keras


def _spread(keras, backend, devices):
    """Keras' data parallelism: each device has all weights and an equal part of a batch; means are those of the whole batch."""
    if backend != "jax":
        raise UserError(f"train.devices = {devices}: only JAX spreads a batch; set train.backend: jax, or train.devices: 1")
    there = keras.distribution.list_devices()
    if len(there) < devices:
        raise UserError(f"train.devices = {devices}: JAX sees {len(there)} ({', '.join(there)}); set train.devices no higher")

    class Spread(keras.distribution.DataParallel):
        def get_data_layout(self, shape):
            layout = super().get_data_layout(shape)
            if shape[0] % devices:  # a last, short batch cannot be cut evenly: every device then computes all of it
                layout = keras.distribution.TensorLayout([None] * len(shape), layout.device_mesh)
            return layout

    return Spread(devices=there[:devices], auto_shard_dataset=False)


def fast_bfloat16():
    """True where the processor multiplies bfloat16 in hardware (x86: AVX512_BF16 or AMX)."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = file.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@contextmanager
def _silent_stderr():
    """TensorFlow's C++ part writes to file descriptor 2 before its log level is read; Python errors still get through."""
    try:
        saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:
        yield
        return
    sys.stderr.flush()
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
