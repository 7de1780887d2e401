"""What fingerprints are made of: numbers by which two images of one face are alike.

A face is equalised, so that brightness and contrast are gone, and its cosine transform's first
coefficients are taken: 32 coarse ones and 128 finer ones. Beside them stand a hash of the exact
pixels and five percentiles of the gray levels.
"""

import functools
import hashlib

import cv2
import numpy as np

from ferlab.data.dataset import SIZE

SIDE = 16  # of the corner of the cosine transform that coefficients are taken from
COARSE, SIGNS = 32, 128  # coefficients kept in 4 bits, and by their signs
REACH = 2.5  # standard deviations: coarse coefficients are kept between -REACH and REACH
PERCENTILES = (2, 25, 50, 75, 98)
CHUNK = 2048  # images worked on at once


def hashes(faces):
    """uint64 (N,): 40 bits of the sha256 of each face's pixels."""
    digests = (hashlib.sha256(np.ascontiguousarray(face)).digest() for face in faces)
    return np.array([int.from_bytes(digest[:5], "big") for digest in digests], np.uint64)


def equalised(face):
    """float32 (48, 48): a face uint8 (48, 48) with its gray levels spread evenly over 0 to 255."""
    return cv2.equalizeHist(np.ascontiguousarray(face)).astype(np.float32)


def coefficients(faces):
    """float32 (N, 160): the first coefficients of the cosine transform of each face, equalised.

    faces: uint8 (N, 48, 48).
    """
    result = np.empty((len(faces), COARSE + SIGNS), np.float32)
    for start in range(0, len(faces), CHUNK):
        part = faces[start : start + CHUNK]
        result[start : start + CHUNK] = transform(np.stack([equalised(face) for face in part]))
    return result


def transform(images, kept=COARSE + SIGNS):
    """float32 (N, kept): the first coefficients of images float32 (N, 48, 48).

    Also of images halved, (N, 24, 24), whose 2x2 pixels were averaged.
    """
    count, side = len(images), images.shape[1]
    basis, order = _basis(side, kept)
    n = basis.shape[1]
    rows = (images.reshape(-1, side) @ basis).reshape(count, side, n).transpose(0, 2, 1)
    both = (rows.reshape(-1, side) @ basis).reshape(count, n, n).transpose(0, 2, 1)
    return both.reshape(count, -1)[:, order]


@functools.cache
def _basis(side, kept):
    """(cosine basis float32 (side, n), which of its n x n products are kept, by frequency)."""
    y, x = np.divmod(np.arange(SIDE**2), SIDE)
    order = np.argsort(y * y + x * x, kind="stable")[1 : 1 + kept]
    y, x = y[order], x[order]
    n = max(y.max(), x.max()) + 1
    frequency, place = np.arange(n)[:, None], np.arange(side) + 0.5
    basis = np.cos(np.pi * frequency * place / side) * np.sqrt(2 / SIZE) * SIZE / side
    if side == SIZE // 2:  # of images whose 2x2 pixels were averaged
        basis *= np.cos(np.pi * frequency / (2 * SIZE))
    return np.ascontiguousarray(basis.T, np.float32), y * n + x


def unit(vectors):
    """The rows scaled to length 1, float32; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)


def vectors(coefficients, scale):
    """float32 (N, 160) of length 1: compared with `fingerprints.Known.vectors` by a dot product."""
    return unit(np.clip(coefficients / scale, -REACH, REACH))


def tones(faces):
    """uint8 (N, 5): the gray levels below which PERCENTILES of the pixels lie."""
    below = _histograms(faces).cumsum(axis=1)
    counts = [(below < share * SIZE * SIZE / 100).sum(axis=1) for share in PERCENTILES]
    return np.stack(counts, axis=1).clip(0, 255).astype(np.uint8)


def _histograms(faces):
    """int64 (N, 256): how many pixels have each gray level."""
    result = np.empty((len(faces), 256), np.int64)
    for start in range(0, len(faces), CHUNK):
        part = np.asarray(faces[start : start + CHUNK]).reshape(-1, SIZE * SIZE)
        each = part + 256 * np.arange(len(part), dtype=np.int32)[:, None]
        counts = np.bincount(each.ravel(), minlength=256 * len(part))
        result[start : start + CHUNK] = counts.reshape(-1, 256)
    return result
