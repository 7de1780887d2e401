"""Which official image a turned, shifted, zoomed or mirrored face shows, from its coarse fingerprint alone.

For an unknown face all of VARIANTS are compared with all official images, in a metric that small movements disturb least; the
best candidates are then brought into register by Gauss-Newton steps on the coarse coefficients (Lucas & Kanade 1981), and judged
by the whole fingerprint.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from ferlab.data.dataset import SIZE
from ferlab.data.identity.fingerprints import COARSE, REACH, transform, unit

STARTS = (
    (1, 0, 0),
    (1, 3, 0),
    (1, -3, 0),
    (1, 0, 3),
    (1, 0, -3),
    (0.83, 0, 0),
    (1.2, 0, 0),
)  # zoom; pixels in x and y
CANDIDATES, FINALISTS = (
    96,
    6,
)  # official images per face that one step is tried on, and that are brought into register
STEPS = 2
STEP_LIMIT = np.array([0.2, 0.15, 5, 5])  # of one step: radians, share of zoom, pixels
BATCH = 64


def _affine(angle=0.0, zoom=1.0, x=0.0, y=0.0, mirror=False):
    """float64 (3, 3): from the places of the new image to those of the old one, in pixels of 48x48 from its middle."""
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])
    return turn @ np.diag([-1 if mirror else 1, 1, 1])


VARIANTS = [
    _affine(zoom=zoom, x=x, y=y, mirror=mirror)
    for mirror, (zoom, x, y) in itertools.product((False, True), STARTS)
]
TWIN = 0.60  # official images so alike are no other face in this sense
USUAL = np.array(
    [np.deg2rad(8), 0.06, 2.5, 2.5]
)  # the size of small movements: angle, zoom, shift in x and y


def _warp(image, matrix):
    side = len(image)
    middle, there = (side - 1) / 2, matrix[:2].copy()
    there[:, 2] = there[:, 2] * side / SIZE + middle - there[:, :2].sum(axis=1) * middle
    return cv2.warpAffine(
        image,
        there,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def metric(faces, scale):
    """float32 (32, 32): coarse coefficients times it compare well between a face and the same face moved a little. Directions
    that USUAL movements of these faces, uint8 (n, 48, 48), change much count for less."""
    slopes = _slopes(np.stack([_half(face) for face in faces]), scale) * USUAL[:, None]
    spread = np.einsum("nsc,nsd->cd", slopes, slopes)
    values, axes = np.linalg.eigh(COARSE * spread / np.trace(spread) + 0.1 * np.eye(COARSE))
    return ((axes / np.sqrt(values)) @ axes.T).astype(np.float32)


def _half(face):
    """float32 (24, 24): the face equalised, 2x2 pixels averaged."""
    equal = cv2.equalizeHist(np.ascontiguousarray(face)).astype(np.float32)
    return cv2.resize(equal, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _slopes(images, scale):
    """float32 (n, 4, COARSE): how the coarse coefficients of the images change with angle, zoom, and shift in x and y."""
    side = images.shape[1]
    down, right = np.zeros_like(images), np.zeros_like(images)
    down[:, 1:-1] = (images[:, 2:] - images[:, :-2]) * np.float32(side / SIZE / 2)
    right[:, :, 1:-1] = (images[:, :, 2:] - images[:, :, :-2]) * np.float32(side / SIZE / 2)
    x = ((np.arange(side) - (side - 1) / 2) * SIZE / side).astype(np.float32)
    y = x[:, None]
    fields = np.stack([down * x - right * y, right * x + down * y, right, down], axis=1)
    return (transform(fields.reshape(-1, side, side), COARSE) / scale[:COARSE]).reshape(
        len(images), 4, COARSE
    )


def _step(given, slopes, wanted):
    """The small movement (angle, zoom, x, y) that brings coefficients nearest to those wanted; all (n, ...)."""
    normal = slopes @ slopes.transpose(0, 2, 1)
    normal += 0.03 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.diag(
        [1, 1, 1e-3, 1e-3]
    ) / 4 + 1e-6 * np.eye(4)
    steps = np.linalg.solve(normal, (slopes @ (wanted - given)[:, :, None]))[:, :, 0]
    return np.clip(steps, -STEP_LIMIT, STEP_LIMIT)


def search(faces, known, threads=2):
    """For each of the faces uint8 (n, 48, 48) the most alike official image after the best movement.

    Returns its rows of fer2013.csv, int (n,); the likeness, float32 (n,); and the movements, float64 (n, 3, 3), from the
    official image's places to this face's.
    """
    parts = [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
    if not parts:
        return np.zeros(0, int), np.zeros(0, np.float32), np.zeros((0, 3, 3))
    coarse = unit(known.vectors[:, :COARSE])
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda part: _search(part, known, coarse), parts))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _search(faces, known, coarse):
    n, v = len(faces), len(VARIANTS)
    images = [cv2.equalizeHist(np.ascontiguousarray(face)).astype(np.float32) for face in faces]
    compared = unit(coarse @ known.metric)
    moved = np.stack([_warp(half, matrix) for half in map(_half, faces) for matrix in VARIANTS])
    given = transform(moved, COARSE) / known.scale[:COARSE]
    units = unit(given @ known.metric).reshape(n, v, COARSE)
    best = units[:, 0] @ compared.T
    one = np.empty_like(best)
    for variant in range(1, v):
        np.maximum(best, np.matmul(units[:, variant], compared.T, out=one), out=best)
    rows = np.argpartition(best, -CANDIDATES, axis=1)[:, -CANDIDATES:]  # (n, K)
    likeness = np.einsum("nvc,nkc->nkv", units, compared[rows])
    variants = likeness.argmax(axis=2)

    # one step each, on the coefficients alone
    given, slopes = (
        given.reshape(n, v, COARSE),
        _slopes(moved, known.scale).reshape(n, v, 4, COARSE),
    )
    at = np.arange(n)[:, None]
    start, slope = (
        given[at, variants].reshape(-1, COARSE),
        slopes[at, variants].reshape(-1, 4, COARSE),
    )
    norms = np.linalg.norm(start, axis=1, keepdims=True)
    wanted = coarse[rows].reshape(-1, COARSE) * norms
    steps = _step(start, slope, wanted)
    reached = unit(start + np.einsum("ns,nsc->nc", steps, slope))
    promise = (reached * coarse[rows].reshape(-1, COARSE)).sum(axis=1).reshape(n, -1)
    final = np.argpartition(promise, -FINALISTS, axis=1)[:, -FINALISTS:]

    rows, steps = rows[at, final].ravel(), steps.reshape(n, -1, 4)[at, final].reshape(-1, 4)
    matrices = np.stack(
        [
            VARIANTS[variant] @ _affine(step[0], 1 + step[1], *step[2:])
            for variant, step in zip(variants[at, final].ravel(), steps, strict=True)
        ]
    )
    owner = np.repeat(np.arange(n), FINALISTS)
    top, kept = np.full(len(rows), -1, np.float32), matrices
    for turn in range(STEPS + 1):
        moved = np.stack(
            [_warp(images[image], matrix) for image, matrix in zip(owner, matrices, strict=True)]
        )
        given = transform(moved) / known.scale
        likeness = (unit(np.clip(given, -REACH, REACH)) * known.vectors[rows]).sum(axis=1)
        better = likeness > top
        top, kept = np.where(better, likeness, top), np.where(better[:, None, None], matrices, kept)
        if turn < STEPS:
            given = given[:, :COARSE]
            wanted = coarse[rows] * np.linalg.norm(given, axis=1, keepdims=True)
            steps = _step(given, _slopes(moved, known.scale), wanted)
            matrices = np.stack(
                [
                    matrix @ _affine(step[0], 1 + step[1], *step[2:])
                    for matrix, step in zip(matrices, steps, strict=True)
                ]
            )
    first = top.reshape(n, -1).argmax(axis=1) + FINALISTS * np.arange(n)
    return rows[first], top[first].astype(np.float32), kept[first]
