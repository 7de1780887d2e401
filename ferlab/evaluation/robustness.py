"""How a model stands disturbed faces: seven disturbances at five strengths.

After Hendrycks & Dietterich 2019, arXiv:1903.12261, with strengths that suit gray 48x48 faces.
Everything random derives from (name, strength).
"""

import cv2
import numpy as np
import pandas as pd

from ferlab.data import augment
from ferlab.data.dataset import SIZE

STRENGTHS = {  # what the number means stands in UNITS
    "brightness": (20, 40, 60, 80, 100),
    "contrast": (20, 40, 60, 75, 90),
    "blur": (0.5, 1, 1.5, 2, 3),
    "noise": (5, 10, 20, 30, 40),
    "rotation": (5, 10, 20, 30, 45),
    "shift": (2, 4, 6, 8, 12),
    "occlusion": (8, 12, 16, 20, 24),
}
UNITS = {
    "brightness": "gray levels added or taken, by chance",
    "contrast": "% of the contrast taken",
    "blur": "pixels, sigma of a Gaussian",
    "noise": "gray levels, sigma of a Gaussian",
    "rotation": "degrees, left or right by chance",
    "shift": "pixels, in any direction",
    "occlusion": "pixels, side of a gray square anywhere",
}


def disturb(faces, name, strength):
    """Faces uint8 (N, 48, 48), disturbed, as uint8 of the same shape; the same every time."""
    faces = np.ascontiguousarray(faces)
    uniforms = augment.parameters((name, round(10 * strength)), len(faces))
    return DISTURBANCES[name](faces, strength, uniforms)


def _signs(uniforms):
    """-1 or 1 by chance, float (N, 1, 1)."""
    return np.where(uniforms[:, 0] < 0.5, -1.0, 1.0)[:, None, None]


def _brightness(faces, strength, uniforms):
    return _bytes(faces + _signs(uniforms) * strength)


def _contrast(faces, strength, uniforms):
    mean = faces.mean(axis=(1, 2), keepdims=True)
    return _bytes(mean + (faces - mean) * (1 - strength / 100))


def _blur(faces, strength, uniforms):
    return np.stack([cv2.GaussianBlur(face, (0, 0), strength) for face in faces])


def _noise(faces, strength, uniforms):
    seed = np.random.SeedSequence((round(10 * strength), len(faces)))
    normal = np.random.Generator(np.random.Philox(seed)).standard_normal(faces.shape)
    return _bytes(faces + strength * normal)


def _rotation(faces, strength, uniforms):
    turned = np.full((len(faces), 8), 0.5)
    turned[:, 1] = (1 + _signs(uniforms)[:, 0, 0]) / 2
    return augment.apply(faces, turned, flip=False, rotation=strength, shift=0, zoom=0)


def _shift(faces, strength, uniforms):
    moved = np.full((len(faces), 8), 0.5)
    angle = 2 * np.pi * uniforms[:, 1]
    moved[:, 2:4] = (1 + np.stack([np.cos(angle), np.sin(angle)], axis=1)) / 2
    return augment.apply(faces, moved, flip=False, rotation=0, shift=strength / SIZE, zoom=0)


def _occlusion(faces, strength, uniforms):
    hidden = faces.copy()
    corners = (uniforms[:, 1:3] * (SIZE - strength + 1)).astype(int)
    for face, (x, y) in zip(hidden, corners, strict=True):
        face[y : y + strength, x : x + strength] = 128
    return hidden


DISTURBANCES = {
    "brightness": _brightness,
    "contrast": _contrast,
    "blur": _blur,
    "noise": _noise,
    "rotation": _rotation,
    "shift": _shift,
    "occlusion": _occlusion,
}


def measure(predict, faces, labels):
    """DataFrame disturbance, strength, n, accuracy; strength 0 is the undisturbed set.

    predict: faces (N, 48, 48) -> class indices (N,). labels: class indices (N,).
    """
    rows = [("none", 0.0, len(faces), float((predict(faces) == labels).mean()))]
    for name, strengths in STRENGTHS.items():
        for strength in strengths:
            right = predict(disturb(faces, name, strength)) == labels
            rows.append((name, float(strength), len(faces), float(right.mean())))
    return pd.DataFrame(rows, columns=["disturbance", "strength", "n", "accuracy"])


def _bytes(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
