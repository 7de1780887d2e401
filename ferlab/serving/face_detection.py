"""Where the faces of a photo are, as the squares that FER2013 would have cut out; drawing them."""

import importlib.util
import threading
from dataclasses import dataclass

import cv2
import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.data.readers import images
from ferlab.files import UserError

# Side of FER2013's own picture over the mean side of a detector's box on it (benchmarks/frame.py)
FRAME = {"haar": 1.03, "mtcnn": 1.10}
MAX_SIDE = 1280  # pixels: larger pictures are shrunk first; faces that matter stay large enough
MIN_FACE = 36  # pixels, in the picture that is searched
LEAST = 24  # pixels: the cascade knows nothing smaller
# Of the cascade: how much the sizes that are searched differ, how many finds make a face. Of 300 of
# FER2013's faces it finds 217 at 81 ms of CPU for 512x512; 1.1 and 8 find 220 at 106 ms. Turned,
# pictures without a face have more ghosts: 15 finds left one on scikit-image's, 18 none.
STEP, NEIGHBOURS, STRICT = 1.13, 7, 18
LARGE, GHOST = 1 / 8, 1 / 3  # of a picture's longer side; of the largest face
MIN_CONFIDENCE = 0.9  # of mtcnn's boxes
BLUE, WHITE = (48, 99, 142), (255, 255, 255)  # RGB
RED = (194, 59, 78)  # of HiResCAM, as on the page of `explain`


@dataclass(frozen=True)
class Faces:
    """Where the faces of a picture are, the largest first.

    squares: int64 (n, 3), x, y and side in pixels. turn: quarter turns to the left that make the
    faces upright. whole: none was found, and the whole picture is taken as a face.
    """

    squares: np.ndarray
    turn: int = 0
    whole: bool = False

    def cut(self, picture):
        """uint8 (n, 48, 48): the faces of this picture, upright."""
        cut = [images.cut(picture, square) for square in self.squares]
        return np.rot90(np.reshape(cut, (-1, SIZE, SIZE)).astype(np.uint8), self.turn, (1, 2))

    def remark(self):
        """What a user should know of how they were found; mostly nothing."""
        if self.whole:
            return "no face found: taken whole as a face"
        return {0: "", 2: "upside down"}.get(self.turn, "lying on its side")


class Detector:
    """Finds faces; call it from any thread, with an RGB picture, uint8 (H, W, 3).

    Returns squares, int64 (n, 3) as x, y, side in pixels, the largest first.
    """

    def __init__(self, name=None, min_face=None):
        """name: of DETECTORS; without one, mtcnn where it is installed, else haar. min_face:
        pixels; without it MIN_FACE in the picture that is searched.

        Raises UserError for a detector that is unknown or not installed.
        """
        self.name, self.min_face, self._lock = chosen(name), min_face, threading.Lock()
        self._boxes = DETECTORS[self.name]()

    def __call__(self, image, strict=False):
        """strict: as for a picture that is turned, where fewer faces and as many ghosts are."""
        longest, smallest = max(image.shape[:2]), MIN_FACE
        scale = min(1, MAX_SIDE / longest)
        if self.min_face:  # for small ones a larger picture is searched
            scale = min(1, max(scale, LEAST / self.min_face))
            smallest = max(LEAST, round(self.min_face * scale))
        if min(image.shape[:2]) * scale < smallest:
            return np.zeros((0, 3), np.int64)
        small = (
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if scale < 1
            else image
        )
        with self._lock:  # neither detector may be entered twice
            boxes = self._boxes(np.ascontiguousarray(small), smallest, strict)
        boxes = np.array(boxes, np.float64).reshape(-1, 4) / scale
        sides = FRAME[self.name] * boxes[:, 2:].mean(axis=1)
        corners = boxes[:, :2] + boxes[:, 2:] / 2 - sides[:, None] / 2
        squares = np.column_stack([corners, sides]).round().astype(np.int64)
        squares = squares[np.lexsort((squares[:, 0], -squares[:, 2]))]
        if self.name == "haar" and not self.min_face:
            squares = _without_ghosts(squares, longest)
        return squares

    def upright(self, image):
        """The Faces of a photo; where none is found, those of the photo turned until some are."""
        squares = self(image)
        if len(squares):
            return Faces(squares)
        found = {turn: self(np.rot90(image, turn), strict=True) for turn in (1, 2, 3)}
        turn = max(found, key=lambda turn: found[turn][:1, 2].sum())  # the one of the largest face
        return Faces(_turned_back(found[turn], turn, image.shape), turn if len(found[turn]) else 0)


def _without_ghosts(squares, longest):
    """The squares, largest first, without those that are tiny beside a large one: on a photo of one
    person the cascade also takes a badge or a fold for a face.
    """
    if not len(squares) or squares[0, 2] < LARGE * longest:
        return squares
    return squares[squares[:, 2] >= GHOST * squares[0, 2]]


def _turned_back(squares, turn, shape):
    """Squares of a picture after `turn` quarter turns to the left, on the picture of this shape."""
    x, y, side = squares.T
    height, width = shape[:2]
    places = {1: (width - y - side, x), 2: (width - x - side, height - y - side)}
    return np.column_stack([*places.get(turn, (y, height - x - side)), side])


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
    return lambda image, smallest, strict: cascade.detectMultiScale(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
        STEP,
        STRICT if strict else NEIGHBOURS,
        minSize=(smallest, smallest),
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
    return lambda image, smallest, strict: [
        face["box"]
        for face in find(image)
        if face["confidence"] >= MIN_CONFIDENCE and min(face["box"][2:]) >= smallest
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
