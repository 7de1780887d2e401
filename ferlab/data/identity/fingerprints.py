"""Fingerprints of the 35,887 official images, by which any copy of them is known.

assets/fingerprints.npz holds for each row of the official fer2013.csv 47 bytes: 40 bits of a hash of
its pixels, and of those it has in Kaggle's class folders (OpenCV's JPEG of quality 95), 32 coarse
coefficients of its cosine transform in 4 bits each (after equalisation, so that brightness and
contrast are gone), the signs of the next 128, and five percentiles of its gray levels; and its label
and split. No image can be recovered from them, only a blur: what the best linear
reconstruction gives back is worth nine by nine points (tests/unit/test_identify.py). Made by
`python -m ferlab.fingerprints <official fer2013.csv, zipped or not>` (10 s).
"""

import functools
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, SPLITS
from ferlab.data.readers import images
from ferlab.files import UserError, replacing

PATH = Path(__file__).parents[2] / "assets/fingerprints.npz"
SHA256 = "bb2c45329ab3713edd0e567e3e7f8a9ec3a3ff9aa5af074dd5fb3b655524e558"
ORDER = "55a7f6bd376ff2af0d77549a49b3d8bfd7be14bc7c6bf8d4c99ca47f2551c8fa"  # of the official rows' hashes
SIDE, COARSE, SIGNS = (
    16,
    32,
    128,
)  # of the cosine transform's corner; how many coefficients are kept in 4 bits, and as signs
REACH, LEVELS = (
    2.5,
    16,
)  # the coarse coefficients, in standard deviations, are kept between -REACH and REACH
SIGN = 0.8  # what a sign stands for, in standard deviations: their mean size
PERCENTILES = (2, 25, 50, 75, 98)
METRIC_EVERY = 10  # every n-th image teaches the metric
CHUNK = 2048  # images worked on at once


@dataclass(frozen=True)
class Known:
    """The official images, in the order of fer2013.csv.

    hashes, jpeg_hashes: uint64 (N,), 40 bits each, of the pixels and of Kaggle's. vectors: float32
    (N, 160) of length 1, zero for blank images. tones: uint8 (N, 5), see PERCENTILES. labels, splits:
    names, object (N,). scale: float32 (160,), the standard deviations of the coefficients. metric:
    float32 (32, 32), see ferlab.align. groups: int (N,), equal where the pixels are equal.
    """

    hashes: np.ndarray
    jpeg_hashes: np.ndarray
    vectors: np.ndarray
    tones: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    scale: np.ndarray
    metric: np.ndarray
    groups: np.ndarray


def hashes(faces):
    """uint64 (N,): 40 bits of the sha256 of each face's pixels."""
    return np.array(
        [
            int.from_bytes(hashlib.sha256(np.ascontiguousarray(face)).digest()[:5], "big")
            for face in faces
        ],
        np.uint64,
    )


@functools.cache
def _basis(side, kept):
    """(the cosine basis float32 (n, side), which of its n x n products are kept, in the order of their frequency)."""
    y, x = np.divmod(np.arange(SIDE**2), SIDE)
    order = np.argsort(y * y + x * x, kind="stable")[1 : 1 + kept]
    y, x = y[order], x[order]
    n = max(y.max(), x.max()) + 1
    frequency, place = np.arange(n)[:, None], np.arange(side) + 0.5
    basis = np.cos(np.pi * frequency * place / side) * np.sqrt(2 / SIZE) * SIZE / side
    if side == SIZE // 2:  # of images whose 2x2 pixels were averaged
        basis *= np.cos(np.pi * frequency / (2 * SIZE))
    return np.ascontiguousarray(basis.T, np.float32), y * n + x


def coefficients(faces):
    """float32 (N, 160): the first coefficients of the cosine transform of each face (uint8 (N, 48, 48)), equalised."""
    found = np.empty((len(faces), COARSE + SIGNS), np.float32)
    for start in range(0, len(faces), CHUNK):
        equal = np.stack(
            [cv2.equalizeHist(np.ascontiguousarray(face)) for face in faces[start : start + CHUNK]]
        )
        found[start : start + CHUNK] = transform(equal.astype(np.float32))
    return found


def transform(images, kept=COARSE + SIGNS):
    """float32 (N, kept): the first coefficients of images float32 (N, 48, 48), or of such ones halved, (N, 24, 24)."""
    side = images.shape[1]
    basis, order = _basis(side, kept)
    n = basis.shape[1]
    rows = (images.reshape(-1, side) @ basis).reshape(len(images), side, n).transpose(0, 2, 1)
    return (
        (rows.reshape(-1, side) @ basis)
        .reshape(len(images), n, n)
        .transpose(0, 2, 1)
        .reshape(len(images), -1)[:, order]
    )


def unit(vectors):
    """The rows made of length 1; rows of zeros stay."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(
        np.float32
    )


def vectors(coefficients, scale):
    """float32 (N, 160) of length 1: what is compared with `Known.vectors` by a dot product."""
    return unit(np.clip(coefficients / scale, -REACH, REACH))


def histograms(faces):
    """int64 (N, 256): how many pixels have each gray level."""
    found = np.empty((len(faces), 256), np.int64)
    for start in range(0, len(faces), CHUNK):
        part = np.asarray(faces[start : start + CHUNK]).reshape(-1, SIZE * SIZE)
        each = part + 256 * np.arange(len(part), dtype=np.int32)[:, None]
        found[start : start + CHUNK] = np.bincount(each.ravel(), minlength=256 * len(part)).reshape(
            -1, 256
        )
    return found


def tones(faces):
    """uint8 (N, 5): the gray levels below which PERCENTILES of the pixels lie."""
    below = histograms(faces).cumsum(axis=1)
    counts = [(below < share * SIZE * SIZE / 100).sum(axis=1) for share in PERCENTILES]
    return np.stack(counts, axis=1).clip(0, 255).astype(np.uint8)


def make(faces, labels, splits):
    """{name: array} of the fingerprints of these images, as `write` keeps and `read` reads them."""
    from ferlab.data.identity import align

    given = coefficients(faces)
    scale = given.std(axis=0)
    metric = align.metric(faces[::METRIC_EVERY], scale)
    given /= scale
    coarse = (
        np.floor((given[:, :COARSE] + REACH) / (2 * REACH) * LEVELS)
        .clip(0, LEVELS - 1)
        .astype(np.uint8)
    )
    return {
        "hashes": _bytes(hashes(faces)),
        "jpeg_hashes": _bytes(hashes(map(_as_on_kaggle, faces))),
        "coarse": coarse[:, ::2] << 4 | coarse[:, 1::2],
        "signs": np.packbits(given[:, COARSE:] > 0, axis=1),
        "tones": tones(faces),
        "scale": scale,
        "metric": metric,
        "labels": np.array([CLASSES.index(label) for label in labels], np.uint8),
        "splits": np.array([SPLITS.index(split) for split in splits], np.uint8),
    }


def _as_on_kaggle(face):
    """uint8 (48, 48): the face as msambare/fer2013 has it."""
    content = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return images.face(images.decode(content.tobytes(), "a face"))


def _bytes(hashes):
    return (hashes[:, None] >> np.arange(32, -1, -8, dtype=np.uint64)).astype(np.uint8)


def _numbers(packed):
    return (packed.astype(np.uint64) << np.arange(32, -1, -8, dtype=np.uint64)).sum(axis=1)


def restored(arrays):
    """The Known of the arrays of `make`."""
    packed, coarse = arrays["coarse"], np.empty((len(arrays["coarse"]), COARSE), np.float32)
    coarse[:, ::2], coarse[:, 1::2] = packed >> 4, packed & 15
    coarse = (coarse - (LEVELS - 1) / 2) / LEVELS * 2 * REACH
    signs = SIGN * (2 * np.unpackbits(arrays["signs"], axis=1).astype(np.float32) - 1)
    blank = (arrays["tones"] == arrays["tones"][:, :1]).all(axis=1)
    vectors = unit(np.hstack([coarse, signs])) * ~blank[:, None]
    hashes = _numbers(arrays["hashes"])
    return Known(
        hashes,
        _numbers(arrays["jpeg_hashes"]),
        vectors,
        arrays["tones"],
        np.array(CLASSES, object)[arrays["labels"]],
        np.array(SPLITS, object)[arrays["splits"]],
        arrays["scale"],
        arrays["metric"],
        np.unique(hashes, return_inverse=True)[1],
    )


@functools.cache
def read():
    """The Known of the official images. Raises UserError where the file is not the one that this code belongs to."""
    content = PATH.read_bytes() if PATH.exists() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise UserError(
            f"{PATH}: not the fingerprints that belong here (sha256 {found[:12]}, expected "
            f"{SHA256[:12]}); git checkout ferlab/assets"
        )
    with np.load(PATH, allow_pickle=False) as file:
        return restored(dict(file))


def main(path):
    """Write the fingerprints of the official fer2013.csv at `path` (zipped or not), and print their sha256."""
    from ferlab.data.readers import sources

    dataset, _ = sources.read_unnamed(path)
    if sources.NAMES.get(dataset.digest) != "fer2013":
        raise UserError(
            f"{path}: not the official pixels (digest {dataset.digest[:12]}), of which fingerprints are made"
        )
    row = np.argsort([int(name.rpartition("_")[2]) for name in dataset.table["id"]])
    dataset = dataset.where(row)
    if hashlib.sha256(hashes(dataset.faces).tobytes()).hexdigest() != ORDER:
        raise UserError(
            f"{path}: the official pixels, but not in the official order, by which FER+ counts them"
        )
    arrays = make(dataset.faces, dataset.table["label"], dataset.table["split"])
    with replacing(PATH) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    print(
        f"{PATH}: {PATH.stat().st_size:,} bytes, sha256 {hashlib.sha256(PATH.read_bytes()).hexdigest()}"
    )


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise UserError("python -m ferlab.fingerprints <official fer2013.csv>")
        main(sys.argv[1])
    except UserError as error:
        sys.exit(f"error: {error}")
