"""What the PyPI package `fer` makes of faces and of a photo; runs in the package's own environment.

    python worker.py faces <uint8 pixels, n x 48 x 48> <out.json>
    python worker.py photo <uint8 pixels, 512 x 512 x 3, RGB> <out.json>

A face that is cut out already is named as the face of its picture, with offsets=(0, 0): by itself
the package puts ten pixels around what its detector finds. Seconds are the process's own CPU
seconds, all threads, after calls that are not counted: of one face a call, as its users call it.
That is so slow that only TIMED faces are asked so; all are asked once as a sheet of faces, which
the package cuts, prepares and names alike.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from fer.fer import FER

SIDE, WARM, PHOTOS = 48, 10, 5
TIMED, ROW = 100, 8  # faces asked one at a time; faces in a row of a sheet


def faces(model, pixels):
    grays = np.fromfile(pixels, np.uint8).reshape(-1, SIDE, SIDE)
    seconds = []
    for gray in grays[: WARM + TIMED]:
        began = time.process_time()
        ask(model, gray, [(0, 0)])
        seconds.append(time.process_time() - began)
    counted = seconds[WARM:] or seconds
    answers = []
    for start in range(0, len(grays), ROW * ROW):
        part = grays[start : start + ROW * ROW]
        sheet = np.zeros((ROW * SIDE, ROW * SIDE), np.uint8)
        corners = [(SIDE * (i % ROW), SIDE * (i // ROW)) for i in range(len(part))]
        for gray, (x, y) in zip(part, corners, strict=True):
            sheet[y : y + SIDE, x : x + SIDE] = gray
        answers += ask(model, sheet, corners)
    return {
        "labels": list(answers[0]),
        "scores": [list(answer.values()) for answer in answers],
        "cpu_ms": 1000 * sum(counted) / len(counted),
    }


def ask(model, gray, corners):
    """[{name: score}] of the faces at these corners (x, y) of a gray picture."""
    picture = np.stack([gray] * 3, axis=-1)  # BGR
    squares = [(x, y, SIDE, SIDE) for x, y in corners]
    found = model.detect_emotions(picture, face_rectangles=squares)
    return [face["emotions"] for face in found]


def photo(model, pixels):
    side = round((Path(pixels).stat().st_size / 3) ** 0.5)
    picture = np.fromfile(pixels, np.uint8).reshape(side, side, 3)[..., ::-1].copy()  # BGR
    model.detect_emotions(picture)
    began = time.process_time()
    for _ in range(PHOTOS):
        found = model.detect_emotions(picture)
    return {"found": len(found), "cpu_ms": 1000 * (time.process_time() - began) / PHOTOS}


if __name__ == "__main__":
    kind, pixels, out = sys.argv[1:]
    made = {"faces": faces, "photo": photo}[kind](FER(offsets=(0, 0)), pixels)
    Path(out).write_text(json.dumps(made))
