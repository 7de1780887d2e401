"""How pixels are prepared for a network: the same in training, evaluation, prediction and
export."""

import cv2
import numpy as np


def prepared(faces, equalize):
    """Faces uint8 (..., h, w) as the network sees them.

    With `equalize` each one's histogram is spread evenly over the 256 gray levels (OpenCV's
    equalizeHist), else they stay as they are.
    """
    if not equalize:
        return faces
    faces = np.ascontiguousarray(faces)
    if not faces.size:
        return faces
    flat = faces.reshape(-1, *faces.shape[-2:])
    return np.stack([cv2.equalizeHist(face) for face in flat]).reshape(faces.shape)
