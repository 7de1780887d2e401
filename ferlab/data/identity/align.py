"""Which official image a turned, shifted, zoomed or mirrored face shows, by its coarse
coefficients.

For an unknown face all of VARIANTS are compared with all official images, in a metric that small
movements disturb least. The best candidates are then brought into register by Gauss-Newton steps on
the coarse coefficients (Lucas & Kanade 1981), and rated by the whole fingerprint.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from ferlab.data.dataset import SIZE
from ferlab.data.identity.features import COARSE, REACH, equalised, transform, unit

# Zoom, and pixels in x and y, to start from.
STARTS = ((1, 0, 0), (1, 3, 0), (1, -3, 0), (1, 0, 3), (1, 0, -3), (0.83, 0, 0), (1.2, 0, 0))
CANDIDATES = 96  # official images per face that one step is tried on
FINALISTS = 6  # of them, those that are brought into register
STEPS = 2
STEP_LIMIT = np.array([0.2, 0.15, 5, 5])  # of one step: radians, share of zoom, pixels
BATCH = 64
TWIN = 0.60  # official images so alike do not count as other faces
# The size of small movements: angle, zoom, shift in x and y.
USUAL = np.array([np.deg2rad(8), 0.06, 2.5, 2.5])


def _affine(angle=0.0, zoom=1.0, x=0.0, y=0.0, mirror=False):
    """float64 (3, 3): from places in the new image to those in the old one, in pixels of 48x48 from
    its middle."""
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])
    return turn @ np.diag([-1 if mirror else 1, 1, 1])


VARIANTS = [
    _affine(zoom=zoom, x=x, y=y, mirror=mirror)
    for mirror, (zoom, x, y) in itertools.product((False, True), STARTS)
]


def metric(faces, scale):
    """float32 (32, 32): coarse coefficients times it compare well between a face and the same face
    moved a little.

    Directions that USUAL movements of these faces, uint8 (n, 48, 48), change much count for less.
    """
    slopes = _slopes(np.stack([_half(equalised(face)) for face in faces]), scale) * USUAL[:, None]
    spread = np.einsum("nsc,nsd->cd", slopes, slopes)
    values, axes = np.linalg.eigh(COARSE * spread / np.trace(spread) + 0.1 * np.eye(COARSE))
    return ((axes / np.sqrt(values)) @ axes.T).astype(np.float32)


def search(faces, known, threads=2):
    """For each of the faces uint8 (n, 48, 48) the most alike official image after the best
    movement.

    Returns its rows of fer2013.csv, int (n,); the likeness, float32 (n,); and the movements,
    float64 (n, 3, 3), from the official image's places to this face's.
    """
    parts = [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
    if not parts:
        return np.zeros(0, int), np.zeros(0, np.float32), np.zeros((0, 3, 3))
    coarse = unit(known.vectors[:, :COARSE])
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda part: _search(part, known, coarse), parts))
    return tuple(np.concatenate(column) for column in zip(*results, strict=True))


def _search(faces, known, coarse):
    """`search` of one batch; coarse: float32 (N, 32), the official images' coefficients, length
    1."""
    images = [equalised(face) for face in faces]
    rows, matrices = _finalists(images, known, coarse)
    owner = np.repeat(np.arange(len(faces)), FINALISTS)
    likeness, matrices = _registered(images, owner, rows, matrices, known, coarse)
    best = likeness.reshape(len(faces), -1).argmax(axis=1) + FINALISTS * np.arange(len(faces))
    return rows[best], likeness[best].astype(np.float32), matrices[best]


def _finalists(images, known, coarse):
    """(rows int (n * FINALISTS,), movements (n * FINALISTS, 3, 3)) that promise most for each
    image.

    One Gauss-Newton step is tried on the coefficients of CANDIDATES, without moving an image.
    """
    n, v = len(images), len(VARIANTS)
    halves = [_half(image) for image in images]
    moved = np.stack([_warp(half, matrix) for half in halves for matrix in VARIANTS])
    values = transform(moved, COARSE) / known.scale[:COARSE]
    rows, variants = _candidates(values, known, coarse)

    values = values.reshape(n, v, COARSE)
    slopes = _slopes(moved, known.scale).reshape(n, v, 4, COARSE)
    at = np.arange(n)[:, None]
    start = values[at, variants].reshape(-1, COARSE)
    slope = slopes[at, variants].reshape(-1, 4, COARSE)
    target = coarse[rows].reshape(-1, COARSE)
    steps = _step(start, slope, target * np.linalg.norm(start, axis=1, keepdims=True))
    reached = unit(start + np.einsum("ns,nsc->nc", steps, slope))
    promise = (reached * target).sum(axis=1).reshape(n, -1)
    best = np.argpartition(promise, -FINALISTS, axis=1)[:, -FINALISTS:]

    starts = [VARIANTS[variant] for variant in variants[at, best].ravel()]
    steps = steps.reshape(n, -1, 4)[at, best].reshape(-1, 4)
    return rows[at, best].ravel(), _stepped(starts, steps)


def _candidates(values, known, coarse):
    """For each image the CANDIDATES most alike official rows, and which variant of it is, (n, K).

    values: float32 (n * variants, 32), the coarse coefficients.
    """
    compared = unit(coarse @ known.metric)
    units = unit(values @ known.metric).reshape(-1, len(VARIANTS), COARSE)
    best = units[:, 0] @ compared.T
    alike = np.empty_like(best)
    for variant in range(1, len(VARIANTS)):
        np.maximum(best, np.matmul(units[:, variant], compared.T, out=alike), out=best)
    rows = np.argpartition(best, -CANDIDATES, axis=1)[:, -CANDIDATES:]
    likeness = np.einsum("nvc,nkc->nkv", units, compared[rows])
    return rows, likeness.argmax(axis=2)


def _registered(images, owner, rows, matrices, known, coarse):
    """(likeness (m,), movements (m, 3, 3)) after STEPS steps, of the best of all stations.

    owner: which image each of the m pairs is about. rows: the official image it is compared with.
    """
    top, kept = np.full(len(rows), -1, np.float32), matrices
    for turn in range(STEPS + 1):
        pairs = zip(owner, matrices, strict=True)
        moved = np.stack([_warp(images[image], matrix) for image, matrix in pairs])
        values = transform(moved) / known.scale
        likeness = (unit(np.clip(values, -REACH, REACH)) * known.vectors[rows]).sum(axis=1)
        better = likeness > top
        top, kept = np.where(better, likeness, top), np.where(better[:, None, None], matrices, kept)
        if turn < STEPS:
            values = values[:, :COARSE]
            target = coarse[rows] * np.linalg.norm(values, axis=1, keepdims=True)
            matrices = _stepped(matrices, _step(values, _slopes(moved, known.scale), target))
    return top, kept


def _stepped(matrices, steps):
    """The movements, each followed by its small one (angle, zoom, x, y), float64 (n, 3, 3)."""
    pairs = zip(matrices, steps, strict=True)
    return np.stack([matrix @ _affine(step[0], 1 + step[1], *step[2:]) for matrix, step in pairs])


def _step(values, slopes, target):
    """The small movement (angle, zoom, x, y) that brings coefficients nearest to the target.

    values, target: (n, 32). slopes: (n, 4, 32). Returns (n, 4).
    """
    normal = slopes @ slopes.transpose(0, 2, 1)
    normal += 0.03 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.diag(
        [1, 1, 1e-3, 1e-3]
    ) / 4 + 1e-6 * np.eye(4)
    steps = np.linalg.solve(normal, (slopes @ (target - values)[:, :, None]))[:, :, 0]
    return np.clip(steps, -STEP_LIMIT, STEP_LIMIT)


def _slopes(images, scale):
    """float32 (n, 4, 32): how the coarse coefficients of images change with angle, zoom, and shift
    in x and y."""
    side = images.shape[1]
    down, right = np.zeros_like(images), np.zeros_like(images)
    down[:, 1:-1] = (images[:, 2:] - images[:, :-2]) * np.float32(side / SIZE / 2)
    right[:, :, 1:-1] = (images[:, :, 2:] - images[:, :, :-2]) * np.float32(side / SIZE / 2)
    x = ((np.arange(side) - (side - 1) / 2) * SIZE / side).astype(np.float32)
    y = x[:, None]
    fields = np.stack([down * x - right * y, right * x + down * y, right, down], axis=1)
    values = transform(fields.reshape(-1, side, side), COARSE) / scale[:COARSE]
    return values.reshape(len(images), 4, COARSE)


def _half(image):
    """float32 (24, 24): an image of twice the side, its 2x2 pixels averaged."""
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _warp(image, matrix):
    """The image moved: each pixel comes from where `matrix`, as of `_affine`, says."""
    side = len(image)
    middle, there = (side - 1) / 2, matrix[:2].copy()
    there[:, 2] = there[:, 2] * side / SIZE + middle - there[:, :2].sum(axis=1) * middle
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, there, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
