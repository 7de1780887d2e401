"""Where the faces of a photo are, as the squares that FER2013 would have cut out; drawing them."""

import importlib.util
import threading

import cv2
import numpy as np

from ferlab.files import UserError

# Side of FER2013's own picture over the mean side of a detector's box on it (benchmarks/frame.py)
FRAME = {"haar": 1.03, "mtcnn": 1.10}
MAX_SIDE = 1280  # pixels: larger pictures are shrunk first; faces that matter stay large enough
MIN_FACE = 24  # pixels, in the picture that is searched
MIN_CONFIDENCE = 0.9  # of mtcnn's boxes
BLUE, WHITE = (48, 99, 142), (255, 255, 255)  # RGB
RED = (194, 59, 78)  # of HiResCAM, as on the page of `explain`


class Detector:
    """Finds faces; call it from any thread, with an RGB picture, uint8 (H, W, 3).

    Returns squares, int64 (n, 3) as x, y, side in pixels, from left to right.
    """

    def __init__(self, name=None):
        """name: of DETECTORS; without one, mtcnn where it is installed, else haar.

        Raises UserError for a detector that is unknown or not installed.
        """
        self.name, self._lock = chosen(name), threading.Lock()
        self._boxes = DETECTORS[self.name]()

    def __call__(self, image):
        scale = min(1, MAX_SIDE / max(image.shape[:2]))
        if min(image.shape[:2]) * scale < MIN_FACE:
            return np.zeros((0, 3), np.int64)
        small = (
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if scale < 1
            else image
        )
        with self._lock:  # neither detector may be entered twice
            boxes = np.array(self._boxes(small), np.float64).reshape(-1, 4) / scale
        middle, side = (
            boxes[:, :2] + boxes[:, 2:] / 2,
            FRAME[self.name] * boxes[:, 2:].mean(axis=1, keepdims=True),
        )
        squares = np.concatenate([middle - side / 2, side], axis=1).round().astype(np.int64)
        return squares[np.argsort(middle[:, 0], kind="stable")]


def chosen(name=None):
    """The name of a detector: as Detector takes it. Imports nothing, so it answers at once."""
    installed = importlib.util.find_spec("mtcnn") is not None
    if name is None:
        return "mtcnn" if installed else "haar"
    if name not in DETECTORS:
        raise UserError(f"detector {name!r}: unknown; choose {' or '.join(DETECTORS)}")
    if name == "mtcnn" and not installed:
        raise UserError(
            f"detector {name}: not installed; pip install --require-hashes -r requirements-use.txt"
        )
    return name


def _haar():
    """OpenCV's frontal cascade (Viola and Jones 2001), as the texts of this field use it: fast,
    upright frontal faces only.
    """
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    return lambda image: cascade.detectMultiScale(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 1.1, 8, minSize=(MIN_FACE, MIN_FACE)
    )


def _mtcnn():
    """Zhang et al. 2016 (arXiv:1604.02878), three small networks: also turned and partly hidden
    faces, ten times slower.
    """
    import keras
    from mtcnn import MTCNN

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        find = MTCNN().detect_faces
    finally:
        keras.config.set_dtype_policy(policy)
    return lambda image: [
        face["box"]
        for face in find(image)
        if face["confidence"] >= MIN_CONFIDENCE and min(face["box"][2:]) >= MIN_FACE
    ]


DETECTORS = {"haar": _haar, "mtcnn": _mtcnn}


def draw(image, squares, words):
    """A copy of an RGB picture with a frame for each square and its words above it (inside, where
    there is no room above).
    """
    image = image.copy()
    size = max(0.45, max(image.shape[:2]) / 1600)
    thick = max(1, round(2 * size))
    for (x, y, side), text in zip(squares.tolist(), words, strict=True):
        cv2.rectangle(image, (x, y), (x + side, y + side), BLUE, 2 * thick, cv2.LINE_AA)
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, size, thick)
        left = max(0, min(x - thick, image.shape[1] - width - 8))
        bottom = y if y > height + below + 8 else min(y + height + below + 8, image.shape[0])
        cv2.rectangle(
            image, (left, bottom - height - below - 8), (left + width + 8, bottom), BLUE, cv2.FILLED
        )
        cv2.putText(
            image,
            text,
            (left + 4, bottom - below - 4),
            cv2.FONT_HERSHEY_DUPLEX,
            size,
            WHITE,
            thick,
            cv2.LINE_AA,
        )
    return image


def reddened(face, heat):
    """uint8 (48, 48, 3): a gray face, red where `heat` (0 to 1) is high."""
    share = 0.65 * heat[..., None]
    return ((1 - share) * face[..., None] + share * np.array(RED)).round().astype(np.uint8)
