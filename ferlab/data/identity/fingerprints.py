"""Fingerprints of the 35,887 official images, by which any copy of them is recognised.

assets/fingerprints.npz holds for each row of the official fer2013.csv 47 bytes: 40 bits of a hash
of its pixels, and of those it has in Kaggle's class folders (OpenCV's JPEG of quality 95), 32
coarse coefficients of its cosine transform in 4 bits each, the signs of the next 128, and five
percentiles of its gray levels (ferlab.data.identity.features); and its label and split. No image
can be recovered from them, only a blur: the best linear reconstruction is worth nine by nine
points (tests/unit/test_identify.py). Made by `python -m ferlab.data.identity.fingerprints
<official fer2013.csv, zipped or not>` (10 s).
"""

import functools
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SPLITS
from ferlab.data.identity import align
from ferlab.data.identity.features import COARSE, REACH, coefficients, hashes, tones, unit
from ferlab.data.readers import images
from ferlab.files import UserError, replacing

PATH = Path(__file__).parents[2] / "assets/fingerprints.npz"
SHA256 = "bb2c45329ab3713edd0e567e3e7f8a9ec3a3ff9aa5af074dd5fb3b655524e558"
# Of the hashes of the official rows, in their order.
ORDER = "55a7f6bd376ff2af0d77549a49b3d8bfd7be14bc7c6bf8d4c99ca47f2551c8fa"
LEVELS = 16  # of a coarse coefficient, 4 bits
SIGN = 0.8  # what a sign stands for, in standard deviations: their mean size
METRIC_EVERY = 10  # every n-th image teaches the metric


@dataclass(frozen=True)
class Known:
    """The official images, in the order of fer2013.csv.

    hashes, jpeg_hashes: uint64 (N,), 40 bits each, of the pixels and of Kaggle's. vectors: float32
    (N, 160) of length 1, zero for blank images. tones: uint8 (N, 5), see features.PERCENTILES.
    labels, splits: names, object (N,). scale: float32 (160,), the standard deviations of the
    coefficients. metric: float32 (32, 32), see align.metric. groups: int (N,), equal where the
    pixels are equal.
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


@functools.cache
def read():
    """The Known of the official images.

    Raises UserError where the file is not the one that this code belongs to.
    """
    content = PATH.read_bytes() if PATH.exists() else b""
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{PATH}: not the fingerprints that belong here (sha256 {digest[:12]}, expected "
            f"{SHA256[:12]}); git checkout ferlab/assets"
        )
    with np.load(PATH, allow_pickle=False) as file:
        return restored(dict(file))


def make(faces, labels, splits):
    """{name: array} of the fingerprints of these images, as the file keeps and `read` reads
    them."""
    values = coefficients(faces)
    scale = values.std(axis=0)
    values /= scale
    coarse = np.floor((values[:, :COARSE] + REACH) / (2 * REACH) * LEVELS)
    coarse = coarse.clip(0, LEVELS - 1).astype(np.uint8)
    return {
        "hashes": _bytes(hashes(faces)),
        "jpeg_hashes": _bytes(hashes(map(_as_on_kaggle, faces))),
        "coarse": coarse[:, ::2] << 4 | coarse[:, 1::2],
        "signs": np.packbits(values[:, COARSE:] > 0, axis=1),
        "tones": tones(faces),
        "scale": scale,
        "metric": align.metric(faces[::METRIC_EVERY], scale),
        "labels": np.array([CLASSES.index(label) for label in labels], np.uint8),
        "splits": np.array([SPLITS.index(split) for split in splits], np.uint8),
    }


def _as_on_kaggle(face):
    """uint8 (48, 48): the face as msambare/fer2013 has it."""
    content = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return images.face(images.decode(content.tobytes(), "a face"))


def _bytes(hashes):
    """uint8 (N, 5) of 40 bits each; `_numbers` is the way back."""
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
    official = _numbers(arrays["hashes"])
    return Known(
        hashes=official,
        jpeg_hashes=_numbers(arrays["jpeg_hashes"]),
        vectors=unit(np.hstack([coarse, signs])) * ~blank[:, None],
        tones=arrays["tones"],
        labels=np.array(CLASSES, object)[arrays["labels"]],
        splits=np.array(SPLITS, object)[arrays["splits"]],
        scale=arrays["scale"],
        metric=arrays["metric"],
        groups=np.unique(official, return_inverse=True)[1],
    )


def main(path):
    """Write the fingerprints of the official fer2013.csv at `path`, and print their sha256.

    path: of the CSV, zipped or not. Raises UserError where it has other pixels, or another order.
    """
    from ferlab.data.readers import sources

    dataset, _ = sources.read_unidentified(path)
    digest = dataset.digest
    if sources.NAMES.get(digest) != "fer2013":
        raise UserError(
            f"{path}: not the official pixels (digest {digest[:12]}), "
            "of which fingerprints are made"
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
    content = PATH.read_bytes()
    print(f"{PATH}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise UserError("python -m ferlab.data.identity.fingerprints <official fer2013.csv>")
        main(sys.argv[1])
    except UserError as error:
        sys.exit(f"error: {error}")
