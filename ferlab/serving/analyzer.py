"""What the page answers: the models here, and a picture's faces with any of them."""

import functools
import threading
from pathlib import Path

import numpy as np

from ferlab import files, recipes
from ferlab.data.readers import images
from ferlab.evaluation import attention
from ferlab.reporting import pages
from ferlab.serving import face_detection
from ferlab.serving.light import onnx_file
from ferlab.serving.model_lookup import RELEASED, WORKSPACE_MODEL
from ferlab.serving.predictor import Predictor


def choices(first=""):
    """{name on the page: name for Predictor} of the models here that can be used.

    In this order: `first`, the released one, the workspace's, the recipes'.
    """
    models = {first: first} if first else {}
    if (RELEASED / "model.json").exists():
        models["released"] = ""
    if not onnx_file.has_keras():
        return models
    if WORKSPACE_MODEL.exists():
        models["workspace"] = "workspace"
    runs = sorted((recipes.RECIPES / "runs").glob("*/model.keras"))
    return models | {path.parent.name: str(path) for path in runs}


class Analyzer:
    """What all requests share: one detector, and the last few networks that were asked for.

    Call it from any thread with the bytes of a picture.
    """

    def __init__(self, first="", detector=None, said=None, min_face=None):
        """first: the model shown first, as in find_model. detector, min_face, said (of the
        first model): as in Predictor. Raises UserError.
        """
        self._first, self._said = first, said
        self._lock, self.detector = threading.Lock(), None
        self._cached = functools.lru_cache(4)(self._fresh)
        if detector != "none":
            face_detection.chosen(detector)
        if not self.names():
            raise files.UserError(
                "no model to show; `dvc repro` trains one, or name one: --model FILE"
            )
        # now: what is wrong with it is reported before anybody looks at the page
        predictor = self._load(self.names()[0])
        if detector != "none":  # after the network, which silences TensorFlow
            self.detector = predictor.detector = face_detection.Detector(detector, min_face)

    def names(self):
        """The names of the models that the page offers."""
        return list(choices(self._first))

    def __call__(self, content, name="", cam=False, live=False):
        """The answer to the bytes of a picture, ready for JSON. cam: with a picture of where the
        network looks. live: of a webcam, which is not tried turned. Raises UserError.
        """
        if (name := name or self.names()[0]) not in self.names():
            raise files.UserError(f"model {name!r}: not here; choose {', '.join(self.names())}")
        picture = np.asarray(images.decode(content, "the picture").convert("RGB"))
        with self._lock:  # loading one network resets what Keras shares with the others
            predictor = self._load(name)
        height, width = picture.shape[:2]
        found = predictor.faces(picture, turn=not live)
        return {
            "width": width,
            "height": height,
            "model": name,
            "classes": predictor.classes,
            "remark": found.remark(),
            "faces": self._faces(predictor, picture, found, cam),
        }

    def _faces(self, predictor, picture, found, cam):
        """A dict for each face: x, y, side, probabilities; with `cam` where the network looks, as
        a data address.
        """
        cut = found.cut(picture)
        if not len(cut):
            return []
        with self._lock:
            probabilities = predictor.probabilities(cut)
            classes = probabilities.argmax(axis=1)
            heat = _heat(predictor, cut, classes) if cam else []
        faces = [
            {"x": x, "y": y, "side": side, "probabilities": [round(value, 4) for value in row]}
            for (x, y, side), row in zip(
                found.squares.tolist(), probabilities.tolist(), strict=True
            )
        ]
        for answer, face, its_heat in zip(faces, cut, heat, strict=False):
            answer["cam"] = pages.inline(pages.png(face_detection.reddened(face, its_heat)))
        return faces

    def _load(self, name):
        model = choices(self._first)[name]
        places = {"": RELEASED / "model.json", "workspace": WORKSPACE_MODEL}
        path = places.get(model, Path(model))
        # trained again meanwhile, it is another one
        return self._cached(name, path.stat().st_mtime_ns if path.exists() else 0)

    def _fresh(self, name, changed):
        said = self._said if name == self.names()[0] else None
        predictor = Predictor(choices(self._first)[name], "none", said)
        predictor.detector = self.detector
        return predictor


def _heat(predictor, faces, classes):
    """Where the network looks, float32 (N, 48, 48) from 0 to 1: HiResCAM; of an ONNX file, which
    has no gradient, how much hiding a place costs, beside the place that costs most.
    """
    if not isinstance(predictor.network, onnx_file.OnnxNetwork):
        return attention.hires_cam(predictor.network, faces, classes)
    losses = np.maximum(attention.occlusion(predictor.probabilities, faces, classes), 0)
    return losses / np.maximum(losses.max(axis=(1, 2), keepdims=True), 1e-9)
