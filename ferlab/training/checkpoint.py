"""What a training needs to go on where it was killed: one file, replaced after each epoch.

It lies in a folder of its own under .ferlab/resume, named after all that decides the weights.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import math
import os

import numpy as np

from ferlab import files

ARRAYS = ("weights", "optimizer_state", "averaged_weights", "best_weights")


@dataclasses.dataclass
class State:
    """A training between two epochs. Weights are lists of arrays, in Keras' order.

    epoch: epochs done. history: a dict per epoch; seconds: of each epoch. rate_scale: by which the
    plateau rule has lowered the learning rate. epochs_since_best: since the selection loss was
    lowest; epochs_since_reduction: since then, or since the rate was halved.
    averaged_weights: empty without `train.averaging`. best_weights: those that the result will
    have.
    """

    epoch: int = 0
    history: list = dataclasses.field(default_factory=list)
    seconds: list = dataclasses.field(default_factory=list)
    rate_scale: float = 1.0
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    epochs_since_best: int = 0
    epochs_since_reduction: int = 0
    weights: list = dataclasses.field(default_factory=list)
    optimizer_state: list = dataclasses.field(default_factory=list)
    averaged_weights: list = dataclasses.field(default_factory=list)
    best_weights: list = dataclasses.field(default_factory=list)


def save(path, state):
    """Write a State to `path`, whole or not at all."""
    values = {name: value for name, value in vars(state).items() if name not in ARRAYS}
    arrays = {
        f"{name}-{index}": array
        for name in ARRAYS
        for index, array in enumerate(getattr(state, name))
    }
    buffer = io.BytesIO()
    np.savez(buffer, state=np.frombuffer(json.dumps(values).encode(), np.uint8), **arrays)
    with files.replacing(path) as part, open(part, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load(path):
    """The State that `save` wrote to `path`."""
    with np.load(path, allow_pickle=False) as file:
        values = json.loads(file["state"].tobytes())
        for name in ARRAYS:
            count = sum(key.startswith(f"{name}-") for key in file.files)
            values[name] = [file[f"{name}-{index}"] for index in range(count)]
    return State(**values)


@contextlib.contextmanager
def lock(path):
    """Yield whether this process holds the file; however a process ends, the system releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        yield held


@contextlib.contextmanager
def resume_folder(key):
    """Yield the folder that keeps the state of the training with this fingerprint.

    Equal trainings at the same time (a queue of experiments) get one each. The folder is removed at
    the end where it is empty, that is, where the training is finished.
    """
    parent = files.root() / ".ferlab" / "resume"
    for number in range(1000):
        folder = parent / (f"{key}-{number}" if number else key)
        with lock(folder.with_suffix(".lock")) as held:
            if held:
                folder.mkdir(exist_ok=True)
                try:
                    yield folder
                finally:
                    with contextlib.suppress(OSError):  # not empty: an unfinished training
                        folder.rmdir()
                        folder.with_suffix(".lock").unlink()
                return
    raise files.UserError(f"{parent}: no free resume folder; remove it")
