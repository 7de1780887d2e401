"""From pictures to faces and their expressions' probabilities: a network and a face detector."""

import itertools
import threading
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.evaluation import inference
from ferlab.evaluation.network import loading
from ferlab.serving import face_detection
from ferlab.serving.light import onnx_file
from ferlab.serving.model_lookup import FILES, find_model

# Pixels: a picture no larger, in which no face is found, is taken for a face already cut out
MAX_CUT_OUT = 96


class Predictor:
    """A network and a detector, to be called from any thread.

    classes: the names of the network's C outputs, in their order.
    """

    def __init__(self, model="", detector=None, said=None, min_face=None):
        """model: as in `find_model`. detector, min_face: as in face_detection.Detector, or `none`:
        each picture is one face. said: the About of a model file that does not say how to use it.

        Raises UserError where there is no such model or detector, or the model cannot be used.
        """
        if detector != "none":
            face_detection.chosen(detector)  # before the network, which takes seconds
        fetched = model and model != "workspace" and Path(model).suffix not in FILES
        with find_model(model) as (path, backend):
            if path.suffix == ".onnx":
                self.network = onnx_file.load(path, said)
            elif onnx_file.has_keras():
                shown = model if fetched else path
                self.network = loading.load(path, backend, said=said, shown=shown)
            else:
                raise files.UserError(
                    f"{model}: needs Keras and TensorFlow, which are not installed; "
                    "pip install --require-hashes -r requirements.txt, or name an .onnx file"
                )
        self.classes = self.network.about.classes
        self.detector = None if detector == "none" else face_detection.Detector(detector, min_face)
        self._lock = threading.Lock()

    def probabilities(self, faces):
        """float32 (n, C): of faces uint8 (n, 48, 48), the mean over each and its mirror image."""
        size = 1 << max(len(faces) - 1, 0).bit_length()  # few sizes, as each new one is compiled
        padded = np.zeros((size, *faces.shape[1:]), np.uint8)
        padded[: len(faces)] = faces
        with self._lock:
            predicted = inference.predict(self.network, padded, flip=True, batch=min(size, 512))
        return predicted[: len(faces)]

    def faces(self, picture, turn=True):
        """The Faces of an RGB picture, uint8 (H, W, 3); of a small one in which none is found, the
        whole.

        turn: try the picture turned, too, where no face is upright.
        """
        if self.detector is None:
            return face_detection.Faces(whole(picture))
        small = max(picture.shape[:2]) <= MAX_CUT_OUT
        upright = turn and not small
        found = (
            self.detector.upright(picture)
            if upright
            else face_detection.Faces(self.detector(picture))
        )
        if small and not len(found.squares):
            return face_detection.Faces(whole(picture), whole=True)
        return found

    def __call__(self, pictures, turn=True):
        """[(Faces, probabilities)] of RGB pictures, all their faces classified together."""
        found = [self.faces(picture, turn) for picture in pictures]
        cut = [faces.cut(picture) for picture, faces in zip(pictures, found, strict=True)]
        probabilities = np.zeros((0, len(self.classes)), np.float32)
        if any(map(len, cut)):
            probabilities = self.probabilities(np.concatenate(cut))
        bounds = itertools.pairwise(np.cumsum([0, *map(len, cut)]))
        return [
            (faces, probabilities[start:end])
            for faces, (start, end) in zip(found, bounds, strict=True)
        ]

    def words(self, probabilities):
        """["happy 93 %"], of probabilities (n, C)."""
        return [f"{self.classes[row.argmax()]} {100 * row.max():.0f} %" for row in probabilities]


def whole(picture):
    """int64 (1, 3): the square around a whole picture."""
    height, width = picture.shape[:2]
    side = max(height, width)
    return np.array([((width - side) // 2, (height - side) // 2, side)])
