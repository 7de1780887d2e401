"""An ONNX file that `python -m ferlab export` wrote, as a network to ask: needs no Keras.

It prepares faces itself (equalises, scales) and names its classes. Opening one takes 30 ms.
"""

import importlib.util
import json

import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.evaluation.network.about import About
from ferlab.files import UserError, one_line

FACES, PROBABILITIES = "faces", "probabilities"  # names of what goes in and comes out


def has_keras():
    """Whether Keras is installed: the light way (requirements-predict.txt) does without."""
    return importlib.util.find_spec("keras") is not None


class OnnxNetwork:
    """What ferlab.evaluation.inference asks of a Keras model; about: its classes, and nothing to
    prepare.
    """

    def __init__(self, session, classes):
        """session: of onnxruntime. classes: the names of its C outputs."""
        self._session, self.about = session, About(classes)
        self.output_shape = (None, len(classes))

    def predict_on_batch(self, faces):
        """float32 (n, C): probabilities of faces uint8 (n, 48, 48, 1)."""
        return self._session.run([PROBABILITIES], {FACES: faces})[0]


def load(path, said=None):
    """The OnnxNetwork at `path`. said: as in loading.load, which no such file needs.

    Raises UserError where it is missing or damaged, or not one that ferlab exported.
    """
    if said:
        raise UserError(f"{path}: says itself how to use it; leave out --classes and --scaling")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{path}: onnxruntime is not installed; "
            "pip install --require-hashes -r requirements-predict.txt"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map
        network = OnnxNetwork(session, tuple(json.loads(about["classes"])))
        given = network.predict_on_batch(np.zeros((2, SIZE, SIZE, 1), np.uint8))
    except Exception as error:  # onnxruntime raises kinds of its own
        raise UserError(
            f"{path}: not an ONNX file that ferlab exported ({one_line(error)}); "
            "`python -m ferlab export` writes one"
        ) from None
    if given.shape != (2, len(network.about.classes)):
        raise UserError(
            f"{path}: gives {given.shape[-1]} numbers a face, but names "
            f"{len(network.about.classes)} classes; export it again"
        )
    return network
