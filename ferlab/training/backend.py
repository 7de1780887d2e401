"""Starting Keras: backend, precision and seed, before its first import, and without the noise of the C++ log."""

import os
import sys
from contextlib import contextmanager

from ferlab.files import UserError, one_line, replacing

JOIN_TIMEOUT = 60  # seconds in which all processes of a training must have been started


def start(backend, precision="float32", seed=0, devices=1):
    """Import Keras 3 on `backend` with deterministic operations and return the module.

    devices: over how many each batch is spread (JAX only), in this process or, with FERLAB_PROCESSES, in several. Raises
    UserError where the backend is not installed or has not that many, or where Keras already runs on another one.
    """
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr():
        try:
            if backend == "tensorflow":
                import tensorflow as tf

                tf.config.experimental.enable_op_determinism()
            if backend == "jax" and devices > 1:
                _join()
            import keras
        except ImportError as error:
            raise UserError(
                f"train.backend = {backend!r}: {error.name or backend} is not installed; "
                f"choose tensorflow or install it"
            ) from None
    if keras.backend.backend() != backend:
        raise UserError(
            f"train.backend = {backend!r}: Keras already runs on {keras.backend.backend()} in this process"
        )
    keras.backend.clear_session()  # layer names, and with them the saved bytes, do not depend on what was built before
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    keras.utils.set_random_seed(seed)
    if devices > 1 or keras.distribution.distribution():
        keras.distribution.set_distribution(
            _spread(keras, backend, devices) if devices > 1 else None
        )
    return keras


def step(learner, faces, targets, weights):
    """One training step on a batch, which several processes share among them; returns {"loss", "accuracy"} of all of it."""
    import keras

    spread = keras.distribution.distribution()
    if spread is None:
        return learner.train_on_batch(faces, targets, sample_weight=weights, return_dict=True)
    with spread.cutting(faces, targets, weights) as (faces, targets, weights):
        return learner.train_on_batch(faces, targets, sample_weight=weights, return_dict=True)


def agree(path):
    """Where several processes train together: give all of them the first one's file, or the lack of it."""
    import keras

    if not os.environ.get("FERLAB_PROCESSES") or keras.distribution.distribution() is None:
        return
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    content = np.frombuffer(path.read_bytes() if path.exists() else b"", np.uint8)
    size = int(broadcast_one_to_all(np.int32(len(content))))
    content = np.asarray(
        broadcast_one_to_all(np.resize(content, size) if size else np.zeros(1, np.uint8))
    )
    if size:
        with replacing(path) as part:
            part.write_bytes(content.tobytes())
    else:
        path.unlink(missing_ok=True)


def _join():
    """Make this process one of those that FERLAB_PROCESSES names: <host>:<port> of the first,<how many>,<which, from 0>."""
    told = os.environ.get("FERLAB_PROCESSES")
    if not told:
        return
    import jax

    address, count, index = ([*told.split(","), "", "", ""])[:3]
    if (
        ":" not in address
        or not count.isdecimal()
        or not index.isdecimal()
        or int(index) >= int(count)
    ):
        raise UserError(
            f"FERLAB_PROCESSES={told}: must be <host>:<port>,<processes>,<this one, from 0>"
        )
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            address, int(count), int(index), initialization_timeout=JOIN_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"FERLAB_PROCESSES={told}: not all {count} processes came together within {JOIN_TIMEOUT} seconds "
            f"({one_line(error)})"
        ) from None


def _spread(keras, backend, devices):
    """Keras' data parallelism: each device has all weights and an equal part of a batch; means are those of the whole batch."""
    if backend != "jax":
        raise UserError(
            f"train.devices = {devices}: only JAX spreads a batch; set train.backend: jax, or train.devices: 1"
        )
    import jax

    there, processes = keras.distribution.list_devices(), jax.process_count()
    if len(there) < devices:
        raise UserError(
            f"train.devices = {devices}: JAX sees {len(there)} ({', '.join(there)}); set train.devices no higher"
        )
    if processes > 1 and len(there) > devices:
        raise UserError(
            f"train.devices = {devices}: the processes have {len(there)}; set train.devices: {len(there)}"
        )

    class Spread(keras.distribution.DataParallel):
        cut = False  # whether what is fed is this process' part of a batch, and not all of it

        @contextmanager
        def cutting(self, *batch):
            if processes > 1 and len(batch[0]) % devices == 0:
                part = len(batch[0]) // processes
                batch = [
                    array[part * jax.process_index() : part * (jax.process_index() + 1)]
                    for array in batch
                ]
                self.cut = True
            try:
                yield batch
            finally:
                self.cut = False

        def get_data_layout(self, shape):
            if self.cut or (processes == 1 and shape[0] % devices == 0):
                return super().get_data_layout(shape)
            # a last, short batch cannot be cut evenly: every device then computes all of it
            return keras.distribution.TensorLayout([None] * len(shape), self.device_mesh)

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
