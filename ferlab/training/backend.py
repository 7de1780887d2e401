"""Starting Keras (backend, precision, seed, devices), which must precede its first import."""

import os
import sys
from contextlib import contextmanager

from ferlab.files import UserError, one_line, replacing

GPU_DEVICES = ("/dev/nvidia0", "/dev/kfd")  # there where a driver of NVIDIA's or AMD's is
JOIN_TIMEOUT = 60  # seconds in which all processes of a training must have been started


def start(backend, precision="float32", seed=0, devices=1):
    """Import Keras 3 on `backend` with deterministic operations and return the module.

    precision: as `train.precision`. devices: over how many each batch is split (JAX only), in this
    process or, with FERLAB_PROCESSES, in several. Raises UserError where the backend is not
    installed, has fewer devices, or where Keras already runs on another one.
    """
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN off where the processor has AVX2 and no more, at half the speed
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    with _silent_stderr():
        try:
            if backend == "tensorflow":
                import tensorflow as tf

                tf.config.experimental.enable_op_determinism()
            if backend == "jax" and devices > 1:
                _join()
            import keras
        except ModuleNotFoundError as error:
            raise UserError(
                f"train.backend = {backend!r}: {error.name or backend} is not installed; "
                "choose tensorflow or install it"
            ) from None
        except ImportError as error:  # damaged, or no memory for it
            raise UserError(
                f"train.backend = {backend!r}: cannot be loaded ({one_line(error)})"
            ) from None
    if keras.backend.backend() != backend:
        raise UserError(
            f"train.backend = {backend!r}: Keras already runs on {keras.backend.backend()} "
            "in this process"
        )
    # Layer names, and with them the saved bytes, must not depend on what was built before.
    keras.backend.clear_session()
    # nor anything on the user's own ~/.keras/keras.json
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    used = precision_of(precision, backend)
    keras.config.set_dtype_policy("mixed_bfloat16" if used == "bfloat16" else "float32")
    keras.utils.set_random_seed(seed)
    if devices > 1 or keras.distribution.distribution():
        keras.distribution.set_distribution(
            _data_parallel(keras, backend, devices) if devices > 1 else None
        )
    return keras


def step(model, faces, targets, weights):
    """One training step on a batch, which the devices share; returns its {"loss", "accuracy"}.

    faces: uint8 (n, side, side, 1); targets: float32 (n, classes); weights: float32 (n,).
    """
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None:
        return model.train_on_batch(faces, targets, sample_weight=weights, return_dict=True)
    with distribution.part_of(faces, targets, weights) as (faces, targets, weights):
        return model.train_on_batch(faces, targets, sample_weight=weights, return_dict=True)


def share_file(path):
    """Where several processes train together, give all of them the first one's file, if any."""
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
    """Make this process one of several that train together, as FERLAB_PROCESSES says.

    It holds <host>:<port> of the first process,<how many there are>,<which this is, from 0>.
    """
    value = os.environ.get("FERLAB_PROCESSES")
    if not value:
        return
    import jax

    address, count, index = ([*value.split(","), "", "", ""])[:3]
    if (
        ":" not in address
        or not count.isdecimal()
        or not index.isdecimal()
        or int(index) >= int(count)
    ):
        raise UserError(
            f"FERLAB_PROCESSES={value}: must be <host>:<port>,<processes>,<this one, from 0>"
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
            f"FERLAB_PROCESSES={value}: not all {count} processes came together within "
            f"{JOIN_TIMEOUT} seconds ({one_line(error)})"
        ) from None


def _data_parallel(keras, backend, devices):
    """Keras' data parallelism: each device has all weights and an equal part of a batch.

    Means, such as those of batch normalisation and the loss, are those of the whole batch.
    """
    if backend != "jax":
        raise UserError(
            f"train.devices = {devices}: only JAX spreads a batch; "
            "set train.backend: jax, or train.devices: 1"
        )
    import jax

    available, processes = keras.distribution.list_devices(), jax.process_count()
    if len(available) < devices:
        raise UserError(
            f"train.devices = {devices}: JAX sees {len(available)} ({', '.join(available)}); "
            "set train.devices no higher"
        )
    if processes > 1 and len(available) > devices:
        raise UserError(
            f"train.devices = {devices}: the processes have {len(available)}; "
            f"set train.devices: {len(available)}"
        )

    class DataParallel(keras.distribution.DataParallel):
        fed_a_part = False  # whether arrays are this process' part of a batch, and not all of it

        @contextmanager
        def part_of(self, *batch):
            """Yield this process' part of the arrays where the batch can be cut evenly."""
            if processes > 1 and len(batch[0]) % devices == 0:
                part = len(batch[0]) // processes
                batch = [
                    array[part * jax.process_index() : part * (jax.process_index() + 1)]
                    for array in batch
                ]
                self.fed_a_part = True
            try:
                yield batch
            finally:
                self.fed_a_part = False

        def get_data_layout(self, shape):
            if self.fed_a_part or (processes == 1 and shape[0] % devices == 0):
                return super().get_data_layout(shape)
            # A last, short batch cannot be cut evenly: every device then computes all of it.
            return keras.distribution.TensorLayout([None] * len(shape), self.device_mesh)

    return DataParallel(devices=available[:devices], auto_shard_dataset=False)


def precision_of(asked, backend):
    """The precision, `float32` or `bfloat16`, that `train.precision` means on this machine.

    `auto` is bfloat16 where a GPU multiplies it in hardware, or the processor does; there JAX took
    twice as long for a convolution in bfloat16, and so stays with float32.
    """
    if asked != "auto":
        return asked
    fast = has_gpu(backend) or (backend != "jax" and has_bfloat16())
    return "bfloat16" if fast else "float32"


def has_bfloat16():
    """Whether the processor multiplies bfloat16 in hardware (x86: AVX512_BF16 or AMX).

    None where the system does not tell, or the processor is of another kind.
    """
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), None)
    except OSError:
        return None
    return flags and ("avx512_bf16" in flags or "amx_bf16" in flags)


def has_gpu(backend):
    """Whether `backend` trains on a GPU of NVIDIA's or AMD's, on which bfloat16 is fast."""
    if not any(os.path.exists(device) for device in GPU_DEVICES):
        return False  # without importing the backend
    if backend == "jax":
        import jax

        return jax.default_backend() == "gpu"
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@contextmanager
def _silent_stderr():
    """Discard what is written to file descriptor 2; errors raised in Python still get through.

    TensorFlow's C++ part writes there before its log level is read.
    """
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
