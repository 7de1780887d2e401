"""What our released model makes of faces and of a photo, the light way: onnxruntime and OpenCV, no
Keras. Arguments and seconds as in fer/worker.py; runs in an environment of
requirements-predict.txt.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from ferlab.serving.predictor import Predictor

SIDE, WARM, PHOTOS = 48, 10, 5
MODEL = "pretrained/model.onnx"


def faces(pixels):
    model = Predictor(MODEL, "none")
    pictures = np.fromfile(pixels, np.uint8).reshape(-1, 1, SIDE, SIDE)
    for picture in pictures[:WARM]:
        model.probabilities(picture)
    began = time.process_time()
    answers = [model.probabilities(picture)[0] for picture in pictures]
    seconds = time.process_time() - began
    return {
        "labels": list(model.classes),
        "scores": np.array(answers, float).round(5).tolist(),
        "cpu_ms": 1000 * seconds / len(answers),
    }


def photo(pixels):
    model = Predictor(MODEL, "haar")
    side = round((Path(pixels).stat().st_size / 3) ** 0.5)
    picture = np.fromfile(pixels, np.uint8).reshape(side, side, 3)
    model([picture])
    began = time.process_time()
    for _ in range(PHOTOS):
        ((found, _),) = model([picture])
    seconds = time.process_time() - began
    return {"found": len(found.squares), "cpu_ms": 1000 * seconds / PHOTOS}


if __name__ == "__main__":
    kind, pixels, out = sys.argv[1:]
    Path(out).write_text(json.dumps({"faces": faces, "photo": photo}[kind](pixels)))
