"""What was done to an image of a copy, in one word, from fingerprints alone: no official pixel is
available, only five percentiles of each official image's gray levels."""

import cv2
import numpy as np

from ferlab.data.identity.features import tones

# In the order in which tables show them; "altered" is what none of the others explains alone.
CHANGES = (
    "exact",
    "lossy",
    "brightness or contrast",
    "equalised",
    "colour",
    "mirrored",
    "rotated",
    "resized or cropped",
    "altered",
)
# Gray levels by which the percentiles of an image differ on average when it was merely compressed,
# or moved (something is cut off, something else is repeated).
SAME_TONES, MOVED_TONES = 3, 12
LINEAR_TONES = 6  # the greatest distance from a line, where only brightness and contrast changed
FLAT = 6.0  # gray levels, on average: what equalising still changes in an equalised image
STILL = 1.0  # pixels, root of the mean square over the image: smaller movements are none
SPREAD = 19.6  # pixels, in the same mean: how far a pixel is from the middle


def changes(faces, row, moved, known, resized, coloured):
    """One of CHANGES for each face, "" for unknown ones, object (n,).

    faces: uint8 (n, 48, 48). row: of fer2013.csv, int (n,), -1 where unknown. moved: as of
    `movement`, object (n,). resized, coloured: bool (n,), what the file was.
    """
    mine, theirs = tones(faces).astype(int), known.tones[row].astype(int)
    in_place = (moved == "") | (moved == "mirrored")
    same = np.abs(mine - theirs).mean(axis=1) <= np.where(in_place, SAME_TONES, MOVED_TONES)
    result = np.full(len(faces), "", object)
    for index in np.flatnonzero(row >= 0):
        kinds = {moved[index]} - {""}
        if coloured[index]:
            kinds.add("colour")
        elif not same[index]:
            kinds.add(_tonal_change(faces[index], theirs[index], mine[index]))
        if resized[index]:
            kinds.add("resized or cropped")
        result[index] = kinds.pop() if len(kinds) == 1 else "altered" if kinds else "lossy"
    return result


def _tonal_change(face, before, after):
    """What changed a face's gray levels, given its percentiles before and after, int (5,)."""
    if _is_flat(face):
        return "equalised"
    return "brightness or contrast" if _is_linear(before, after) else "altered"


def movement(matrix):
    """What a movement, float64 (3, 3) as of align.search, is: "", "mirrored", "rotated", "resized
    or cropped", or "altered" for several of them."""
    turn, shift = matrix[:2, :2], matrix[:2, 2]
    mirrored = bool(np.linalg.det(turn) < 0)
    if mirrored:
        turn = turn @ np.diag([-1, 1])
    turned = abs(np.arctan2(turn[1, 0], turn[0, 0])) * SPREAD
    zoom = np.sqrt(abs(np.linalg.det(turn)))
    framed = np.hypot((zoom - 1) * SPREAD, np.linalg.norm(shift))
    kinds = ["mirrored"] * mirrored + ["rotated"] * bool(turned > max(STILL, framed / 2))
    kinds += ["resized or cropped"] * bool(framed > max(STILL, turned / 2))
    return kinds[0] if len(kinds) == 1 else "altered" if kinds else ""


def _is_flat(face):
    """Whether a face is equalised already."""
    return cv2.absdiff(face, cv2.equalizeHist(np.ascontiguousarray(face))).mean() <= FLAT


def _is_linear(before, after):
    """Whether percentiles `after` come from `before` by brightness and contrast, clipped to
    0..255."""
    inside = (after > 0) & (after < 255)
    if inside.sum() < 2 or np.ptp(before[inside]) == 0:
        return False
    factor, offset = np.polyfit(before[inside], after[inside], 1)
    expected = np.clip(factor * before + offset, 0, 255)
    return bool(factor > 0 and np.abs(expected - after).max() <= LINEAR_TONES)
