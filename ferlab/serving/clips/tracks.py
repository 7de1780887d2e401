"""The same face in successive frames: a number that stays, probabilities that do not flicker."""

import math
from dataclasses import dataclass

import numpy as np

OVERLAP = 0.2  # shared over joint area of two squares that may show the same face
FORGET = 1.0  # seconds after which a face that was not seen again is another one
SMOOTH = 0.5  # seconds in which smoothed probabilities come two thirds of the way to new ones


def forgotten(between):
    """Seconds without a face after which it is gone; between: those between two looks.

    FORGET, or long enough for one look to miss it, where looks are far apart.
    """
    return max(FORGET, 2.5 * between)


@dataclass
class _Track:
    number: int
    square: np.ndarray
    probabilities: np.ndarray
    seen: float  # seconds


class Tracks:
    """The faces of a clip, frame by frame; smooth: as SMOOTH, 0 for probabilities as they are."""

    def __init__(self, smooth=SMOOTH):
        self._smooth, self._tracks, self._count, self._last = smooth, [], 0, 0.0

    def __call__(self, seconds, squares, probabilities):
        """(numbers, smoothed probabilities (n, C)) of the faces of a frame at this time.

        Numbers count from 0 through the clip. squares: int64 (n, 3); probabilities: (n, C).
        """
        forget = forgotten(seconds - self._last)
        self._last = seconds
        self._tracks = [track for track in self._tracks if seconds - track.seen <= forget]
        known = _matched([track.square for track in self._tracks], squares)
        numbers, smoothed = [], np.array(probabilities)
        for face, square in enumerate(squares):
            if face in known:
                track = self._tracks[known[face]]
                past = seconds - track.seen
                share = 1 - math.exp(-past / self._smooth) if self._smooth else 1
                smoothed[face] = track.probabilities + share * (
                    smoothed[face] - track.probabilities
                )
            else:
                track = _Track(self._count, square, smoothed[face], seconds)
                self._tracks.append(track)
                self._count += 1
            track.square, track.probabilities, track.seen = square, smoothed[face], seconds
            numbers.append(track.number)
        return numbers, smoothed


def _matched(old, new):
    """{index in new: index in old} of squares that overlap, the closest pairs first."""
    pairs = sorted(
        ((overlap(a, b), i, j) for i, a in enumerate(old) for j, b in enumerate(new)), reverse=True
    )
    matched = {}
    for shared, i, j in pairs:
        if shared >= OVERLAP and j not in matched and i not in matched.values():
            matched[j] = i
    return matched


def overlap(square, other):
    """Shared area over joint area of two squares (x, y, side)."""
    (x, y, side), (u, v, edge) = map(float, square), map(float, other)
    wide, high = min(x + side, u + edge) - max(x, u), min(y + side, v + edge) - max(y, v)
    shared = max(0.0, wide) * max(0.0, high)
    return shared / (side**2 + edge**2 - shared)
