"""Moving faces a little: mirror, rotation, zoom, shift, erasing.

All randomness comes in as uniforms, so that it can be drawn from a key (seed, image, epoch, ...)
and not from a hidden state: the order of calls never matters. The uniforms are the same on every
machine (NumPy's Philox); the last bit of a warped pixel may differ between processors, since
OpenCV interpolates with the instructions that the processor has.
"""

import hashlib

import cv2
import numpy as np

from ferlab.data.dataset import SIZE

CENTRE = (SIZE - 1) / 2


def parameters(key, n):
    """Uniforms in [0, 1), float64 (n, 8). Row i depends on (key, i) alone, whatever n is.

    key: whole numbers from 0 and texts (an image's id), as a tuple. The columns, as `apply` reads
    them: 0 mirror, 1 rotation, 2 shift in x, 3 shift in y, 4 zoom, 5 and 6 place of the erased
    square in x and y, 7 free.
    """
    words = [_word(part) if isinstance(part, str) else part for part in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words))).random((n, 8))


def apply(faces, uniforms, *, flip, rotation, shift, zoom, erase=0.0, side=SIZE):
    """Faces uint8 (n, 48, 48), each moved by its row of `uniforms` (n, 8): uint8 (n, side, side).

    flip: mirror where the uniform is below one half, or a bool array (n,) of the rows to mirror.
    rotation: largest angle in degrees, about the image's centre. shift: largest shift as a share of
    the side. zoom: largest zoom in or out as a share. erase: side of a square filled with the
    image's mean, as a share of the side; its centre falls anywhere in the image, so that it may be
    cut off. Where a movement uncovers something, the edge is repeated. side: of the new images in
    pixels; the whole face is shrunk to it. Without any movement a face comes back bit for bit.
    """
    faces = np.ascontiguousarray(faces)
    matrices = _matrices(uniforms, flip, rotation, shift, zoom)
    if side != SIZE:
        # the centre of new pixel u lies at scale * u + (scale - 1) / 2 of the old grid
        scale = SIZE / side
        matrices[:, :, 2] += matrices[:, :, :2].sum(2) * (scale - 1) / 2
        matrices[:, :, :2] *= scale
    moved = np.empty((len(faces), side, side), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for face, matrix, out in zip(faces, matrices, moved, strict=True):
        cv2.warpAffine(face, matrix, (side, side), out, flags, cv2.BORDER_REPLICATE)
    hole = round(erase * side)
    if hole:
        corners = (uniforms[:, 5:7] * side).astype(int) - hole // 2
        for out, (x, y) in zip(moved, corners, strict=True):
            out[max(y, 0) : y + hole, max(x, 0) : x + hole] = round(out.mean())
    return moved


def _word(text):
    """A text as a whole number, the same in every process (Python's own hash is not)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _matrices(uniforms, flip, rotation, shift, zoom):
    """Where each new pixel comes from, float64 (n, 2, 3): first the shift is undone, then rotation
    and zoom, then the mirror."""
    flip = uniforms[:, 0] < 0.5 if flip is True else np.broadcast_to(flip, len(uniforms))
    spread = 2 * uniforms - 1
    angle = np.deg2rad(rotation * spread[:, 1])
    offset = CENTRE + shift * SIZE * spread[:, 2:4]
    sign = np.where(flip, -1.0, 1.0)
    factor = 1 + zoom * spread[:, 4]
    cosine, sine = np.cos(angle) / factor, np.sin(angle) / factor
    turn = np.stack([np.stack([sign * cosine, sign * sine], 1), np.stack([-sine, cosine], 1)], 1)
    origin = CENTRE - np.einsum("nij,nj->ni", turn, offset)
    return np.concatenate([turn, origin[:, :, None]], 2)
