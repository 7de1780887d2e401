"""How pixels are prepared before a network sees them: the same in training, evaluation, prediction and export."""

import cv2
import numpy as np


def prepared(faces, equalize):
    """Faces uint8 (..., h, w) as the network is to see them: with `equalize` each one's histogram is spread evenly over
    the 256 gray levels (OpenCV's equalizeHist), else as they are."""
    if not equalize:
        return faces
    faces = np.ascontiguousarray(faces)
    flat = faces.reshape(-1, *faces.shape[-2:])
    return (
        np.stack([cv2.equalizeHist(face) for face in flat]).reshape(faces.shape)
        if len(flat)
        else faces
    )
