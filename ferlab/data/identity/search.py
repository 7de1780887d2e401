"""Which official image each face shows, by likeness of fingerprints: as it is, mirrored, turned by
right angles, and, where that explains little, under small movements
(ferlab.data.identity.align)."""

import numpy as np

from ferlab.data.identity import align, alterations
from ferlab.data.identity.features import coefficients, vectors

SURE = 0.70  # likeness from which on two images show the same face: docs/data.md has measurements
# As sure, where nothing moved: so alike, and so much more than all others.
MAYBE, MARGIN = 0.50, 0.15
CLEAR = 0.75  # below, a movement might explain more
BETTER = 0.04  # by which an explanation with a movement must beat the one without
BLOCK = 1024  # images compared at once
# A movement that explains less than this share of so many unknown images is not tried on the rest.
PROBE, RARE = 400, 0.02
MIRRORED = ("mirrored", lambda faces: faces[:, :, ::-1])
ROTATED = [
    ("rotated", lambda faces, turns=turns: np.rot90(faces, turns, (1, 2))) for turns in (1, 2, 3)
]
UPSIDE_DOWN = ("rotated", lambda faces: faces[:, ::-1])


def search(faces, known):
    """(rows of fer2013.csv int (n,), -1 where unknown; moved object (n,), as of
    alterations.movement) of faces uint8 (n, 48, 48)."""
    row, likeness, margin = _nearest(faces, known)
    moved = np.full(len(faces), "", object)
    accepted = (likeness >= SURE) | (likeness >= MAYBE) & (margin >= MARGIN)
    row[~accepted], likeness[~accepted] = -1, 0

    def turned(name, turn):
        def explain(rest):
            rows, alike, _ = _nearest(turn(faces[rest]), known)
            return rows, alike, np.full(len(rest), name, object)

        return explain

    def aligned(rest):
        rows, alike, matrices = align.search(faces[rest], known)
        return rows, alike, np.array([alterations.movement(matrix) for matrix in matrices], object)

    for kind in (MIRRORED, *ROTATED, UPSIDE_DOWN):
        _improve(np.flatnonzero(likeness < SURE), turned(*kind), row, likeness, moved)
    _improve(np.flatnonzero(likeness < CLEAR), aligned, row, likeness, moved)
    return row, moved


def _improve(rest, explain, row, likeness, moved):
    """Take over, in place, what `explain` makes of the images `rest` where it is sure, and more
    alike than what is known of them. It is tried on PROBE of them first."""

    def better(images):
        rows, alike, kinds = explain(images)
        return rows, alike, kinds, (alike >= SURE) & (alike > likeness[images] + BETTER)

    if len(rest) > 2 * PROBE:
        probe = rest[np.linspace(0, len(rest) - 1, PROBE).astype(int)]
        if better(probe)[-1].mean() < RARE:
            return
    if len(rest):
        rows, alike, kinds, accepted = better(rest)
        at = rest[accepted]
        row[at], likeness[at], moved[at] = rows[accepted], alike[accepted], kinds[accepted]


def _nearest(faces, known):
    """(row, likeness, margin) of the most alike official image of each face as it is; margin is by
    how much it is more alike than the next other face (0 where that does not matter)."""
    mine = vectors(coefficients(faces), known.scale)
    row, margin = np.empty(len(faces), int), np.zeros(len(faces), np.float32)
    likeness = np.empty(len(faces), np.float32)
    for start in range(0, len(faces), BLOCK):
        alike = mine[start : start + BLOCK] @ known.vectors.T
        best = alike.argmax(axis=1)
        top = alike[np.arange(len(best)), best]
        row[start : start + BLOCK], likeness[start : start + BLOCK] = best, top
        close = np.flatnonzero((top >= MAYBE) & (top < SURE))
        if len(close):
            few = np.argpartition(alike[close], -8, axis=1)[:, -8:]
            pairs = np.einsum("nkc,nc->nk", known.vectors[few], known.vectors[best[close]])
            next_alike = np.take_along_axis(alike[close], few, axis=1)
            others = np.where(pairs > align.TWIN, -1, next_alike).max(axis=1)
            margin[start + close] = top[close] - others
    return row, likeness, margin
