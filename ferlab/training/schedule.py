"""The learning rate and the side of the faces, by step and epoch."""

import math

from ferlab.data.dataset import SIZE

SMALL_SIDE = 32  # of the faces in the epochs that `low_resolution` names


def rate(step, steps, params):
    """Learning rate at `step` of `steps` (0-based), before any plateau reduction: warm-up, then the schedule."""
    rise = params.warmup * steps
    if step < rise:
        return params.learning_rate * (step + 1) / (rise + 1)
    left = (steps - step) / max(steps - rise, 1)
    shape = {"one_cycle": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[
        params.schedule
    ]
    return params.learning_rate * shape


def side_of(params, epoch):
    """Side in pixels of the faces of one epoch (0-based): in the first ones they may be shrunk, to save time."""
    return SMALL_SIDE if epoch < round(params.low_resolution * params.epochs) else SIZE
