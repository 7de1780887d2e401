"""Learning rate, side of the faces and cost of a step, by step or epoch."""

import math

from ferlab.data.dataset import SIZE

SMALL_SIDE = 32  # of the faces in the epochs that `low_resolution` names


def rate(step, steps, params):
    """Learning rate at `step` of `steps` (from 0): warm-up, then the schedule.

    The plateau rule may scale it down further.
    """
    rise = params.warmup * steps
    if step < rise:
        return params.learning_rate * (step + 1) / (rise + 1)
    left = (steps - step) / max(steps - rise, 1)
    shape = {"one_cycle": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[
        params.schedule
    ]
    return params.learning_rate * shape


def side_of(params, epoch):
    """Side in pixels of the faces of one epoch (from 0): small ones in the first, for speed."""
    return SMALL_SIDE if epoch < round(params.low_resolution * params.epochs) else SIZE


def phase_of(params, epoch):
    """(side of the faces, whether only the last layer learns) of one epoch (from 0)."""
    return side_of(params, epoch), epoch < params.frozen


def step_costs(params):
    """What a step costs in each epoch, as a list: in proportion to the pixels of a face."""
    return [side_of(params, epoch) ** 2 for epoch in range(params.epochs)]
