"""What a network looks at, as pictures: evidence over a face, and the channels of its layers."""

import matplotlib
import numpy as np


def evidence(face, heat):
    """A face uint8 (48, 48) with HiResCAM over it, the redder the stronger: uint8 (48, 48, 3).

    heat: (48, 48), from 0 to 1.
    """
    return _over(face, matplotlib.colormaps["Reds"](heat), 0.25 + 0.5 * heat)


def hidden(face, lost):
    """A face with what hiding each place costs: red where the probability falls, blue where it
    rises, white where nothing changes; the strongest colour is this face's largest change.

    lost: what the probability falls by, (48, 48).
    """
    limit = max(np.abs(lost).max(), 1e-6)
    return _over(face, matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * lost / limit), 0.55)


def channel(values):
    """One channel of a layer, (height, width), as gray levels: its lowest black, its highest white.

    A channel that is the same everywhere is black.
    """
    low, high = values.min(), values.max()
    return (255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)


def _over(face, colours, strength):
    """colours: (48, 48, 4), from 0 to 1. strength: a number or (48, 48), from 0 to 1."""
    strength = np.broadcast_to(strength, face.shape)[..., None]
    mixed = (1 - strength) * face[..., None] + strength * 255 * colours[..., :3]
    return mixed.round().astype(np.uint8)
