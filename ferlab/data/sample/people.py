"""Whom the sample shows: expression, identity, pose and light of each face, drawn at random.

Expressions are put together from facial action units (AU: one muscle's pull).
"""

import numpy as np

from ferlab.data.classes import CLASSES

# How strongly an expression pulls each action unit, in tenths: 1 inner and 2 outer brow raiser, 4
# brow lowerer, 5 upper lid raiser, 6 cheek raiser, 7 lid tightener, 9 nose wrinkler, 12 lip corner
# puller and 15 depressor, 16 lower lip depressor, 20 lip stretcher, 23 lip tightener, 26 jaw drop.
UNITS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 16, 20, 23, 26)
PULL = {
    "angry": (0, 0, 10, 5, 0, 7, 3, 0, 2, 0, 0, 10, 0),
    "disgust": (0, 0, 8, 0, 2, 6, 8, 0, 5, 6, 0, 0, 1),
    "fear": (9, 5, 6, 8, 0, 0, 0, 0, 0, 0, 10, 0, 4),
    "happy": (0, 0, 0, 0, 9, 0, 0, 10, 0, 0, 0, 0, 1),
    "neutral": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "sad": (10, 0, 6, 0, 0, 1, 0, 0, 10, 0, 0, 0, 0),
    "surprise": (8, 10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 10),
}
# Hair styles, one per column: bald, crop, side part, fringe, long, bob, curls, receding, beanie.
HAIR = {
    "crown": (0, 110, 200, 190, 230, 220, 430, 90, 300),  # how far the hair stands off the head
    "line": (-2600, -1330, -1360, -950, -1480, -900, -1200, -1600, -1130),  # hairline at the middle
    "slant": (0, 0, 420, 60, 200, 0, 0, 0, 0),  # ... how much lower at one side
    "drop": (0, 1000, 960, 800, 1500, 950, 900, 1150, 230),  # ... at both temples
    "long": (0, 0, 0, 0, 1, 1, 0, 0, 0),  # falls behind the cheeks
    "curl": (0, 0, 0, 60, 30, 0, 200, 0, 0),  # waviness of the outline
}
STYLE_ENDS = (5, 19, 35, 49, 64, 75, 86, 93)  # percent of faces, cumulated over the styles


def people(random, labels):
    """Everything that varies from face to face: a dict of int32 arrays (N, 1, 1)."""
    draws = _Draws(random, len(labels))
    parameters = _expressions(draws, labels) | _identities(draws) | _scenes(draws)
    # same_kind: a float among them is an error, not rounded in silence
    return {
        key: value.astype(np.int32, casting="same_kind").reshape(-1, 1, 1)
        for key, value in parameters.items()
    }


class _Draws:
    """Random integers for `count` faces at once, each method an array int64 (count,)."""

    def __init__(self, random, count):
        self.random, self.count = random, count

    def bell(self, middle, spread):
        """Bell-shaped around `middle`, at most `spread` away: the mean of four uniform numbers."""
        return middle + self.random.integers(-spread, spread + 1, (4, self.count)).sum(0) // 4

    def flat(self, low, high):
        """Uniform from `low` to `high` - 1."""
        return self.random.integers(low, high, self.count)

    def chance(self, percent):
        """1 with that probability, else 0."""
        return (self.random.integers(0, 100, self.count) < percent).astype(int)


def _expressions(draws, labels):
    """Activations: a strength for each face, a jitter for each unit, and the little that all faces
    at rest have of everything."""
    bell, flat, chance = draws.bell, draws.flat, draws.chance
    strength = np.minimum(flat(50, 330), 256)
    pull = np.array([PULL[name] for name in CLASSES])[labels].T
    p = {}
    for unit, tenths in zip(UNITS, pull, strict=True):
        active = strength * tenths * flat(60, 116) // 1000
        p[f"au{unit}"] = np.clip(active + np.maximum(bell(0, 90), 0), 0, 270)
    angry = (labels == CLASSES.index("angry")) & (chance(30) == 1)
    p["shout"] = np.where(angry, strength * flat(40, 110) // 100, 0)  # some anger bares its teeth
    p["grin"] = np.maximum(p["au12"] - flat(20, 220), 0)  # some smiles show them
    p["blink"] = chance(2)
    return p


def _identities(draws):
    """Who it is: head, hair, brows, eyes, nose, mouth, and what is worn. The order of draws
    counts."""
    bell, flat, chance = draws.bell, draws.flat, draws.chance
    p = {"width": bell(1560, 260), "jaw": bell(1330, 280), "chin": bell(2050, 200)}
    p |= {"skin": bell(172, 75), "ears": bell(270, 110)}
    style = np.searchsorted(STYLE_ENDS, flat(0, 100), side="right")
    p |= {key: np.array(values)[style] for key, values in HAIR.items()}
    p["line"] += bell(0, 260)
    p["crown"] += bell(0, 80) * (style > 0)
    p["hat"] = (style == 8).astype(int)
    p["slant"] *= 1 - 2 * chance(50)
    p["hair"] = np.where(chance(25) == 1, flat(130, 225), flat(18, 110))
    p["brow"] = np.minimum(p["hair"], p["skin"] - 50)
    p |= {"brow_thick": bell(85, 60), "brow_y": bell(-700, 150)}
    p |= {"brow_slope": bell(0, 110), "brow_arch": bell(110, 120)}
    p |= {"eye_x": bell(690, 110), "eye_y": bell(-170, 100)}
    p |= {"eye_wide": bell(420, 75), "eye_open": bell(215, 80)}
    p |= {"iris": bell(65, 50), "gaze": bell(0, 150), "glance": bell(0, 70), "lash": chance(45)}
    p |= {"nose": bell(430, 170), "nose_wide": bell(235, 100)}
    p |= {"mouth_y": bell(1090, 120), "mouth_wide": bell(590, 130), "mouth_rest": bell(0, 130)}
    p |= {"smirk": bell(0, 130), "lip": bell(105, 70), "lip_tone": bell(-42, 36)}
    man = chance(50) * (p["long"] == 0)
    p |= {"beard": man * chance(32) * flat(70, 240), "moustache": man * chance(24)}
    p |= {"glasses": chance(14) * flat(1, 3), "freckles": chance(8)}
    p |= {"age": chance(22) * flat(20, 110), "shirt": flat(25, 235)}
    return p


def _scenes(draws):
    """Pose, background, light and camera."""
    bell, flat = draws.bell, draws.flat
    p = {"turn": bell(0, 68), "x": bell(0, 330), "y": bell(60, 260)}
    p |= {"zoom": bell(960, 140), "yaw": bell(0, 400)}
    p |= {"back": flat(20, 236), "back_slope": flat(-18, 19)}
    p |= {"light_x": bell(0, 44), "light_y": bell(0, 30)}
    p |= {"contrast": bell(225, 90), "bright": bell(0, 50)}
    p |= {"blur": np.clip(bell(70, 330), 0, 256), "noise": flat(1, 12)}
    return p
