"""What `mlflow models serve` runs from the folder that `python -m ferlab export --format mlflow`
writes: pictures in, faces out.

MLflow loads the model by running this file; nothing is pickled.
"""

import base64
import binascii
import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map, Object, Property

from ferlab import files
from ferlab.data.readers import images
from ferlab.serving import face_detection
from ferlab.serving.predictor import Predictor


def signature():
    """In: a column of pictures as base64. Out: for each its faces. A request may name another
    detector for itself.
    """
    face = Object(
        [
            Property("box", Array(DataType.long)),
            Property("expression", DataType.string),
            Property("probabilities", Map(DataType.double)),
        ]
    )
    return ModelSignature(
        Schema([ColSpec(DataType.string, "image")]),
        Schema([ColSpec(Array(face), "faces")]),
        ParamSchema([ParamSpec("detector", DataType.string, "")]),
    )


class Refused(MlflowException):
    """Becomes status 400 and one line. MLflow itself would put the request's pictures before it."""

    def __init__(self, text):
        super().__init__(text, BAD_REQUEST)
        self.text = text

    def serialize_as_json(self):
        return json.dumps({"error_code": self.error_code, "message": self.text})


class Served(PythonModel):
    """The model that MLflow serves."""

    def load_context(self, context):
        """Load the .keras file; UserError where it is not the one that was exported."""
        path, about = Path(context.artifacts["model"]), context.model_config
        if files.sha256(path) != about["sha256"]:
            raise files.UserError(
                f"{path}: not the model that was exported (its sha256 differs); export it again"
            )
        self.predictor = Predictor(path, "none")
        self.detectors = {}

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """model_input: a frame with the column `image`. Returns [{"faces": [{"box": [x, y, side],
        ...}]}].
        """
        try:
            pictures = [
                _picture(text, number) for number, text in enumerate(model_input["image"], 1)
            ]
            predictor = self._with((params or {}).get("detector") or None)
        except files.UserError as error:
            raise Refused(str(error)) from None
        return [
            {
                "faces": [
                    {
                        "box": square,
                        "expression": predictor.classes[row.argmax()],
                        "probabilities": dict(
                            zip(predictor.classes, row.astype(float).round(6).tolist(), strict=True)
                        ),
                    }
                    for square, row in zip(faces.squares.tolist(), probabilities, strict=True)
                ]
            }
            for faces, probabilities in predictor(pictures)
        ]

    def _with(self, name):
        """The predictor with this detector, of face_detection.DETECTORS or `none`; made once."""
        if name not in self.detectors:
            predictor = copy.copy(self.predictor)
            predictor.detector = None if name == "none" else face_detection.Detector(name)
            self.detectors[name] = predictor
        return self.detectors[name]


def _picture(text, number):
    """uint8 (H, W, 3) of the base64 of an image file; number: its place in the request, for the
    error.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise files.UserError(
            f"image {number}: not base64 in one line, without breaks; encode the file anew"
        ) from None
    return np.asarray(images.decode(content, f"image {number}").convert("RGB"))


set_model(Served())
