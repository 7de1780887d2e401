"""`python -m benchmarks.frame`: how large a detector's box is beside FER2013's own pictures; the
source of face_detection.FRAME.

Needs $FER2013 and the detectors of requirements-use.txt. Public faces, four times as large, their
edges going on around them; of the largest box on each the ratio of sides and how far its middle is
off, medians and quartiles.
"""

import cv2
import numpy as np

from benchmarks import run
from ferlab.data.readers import sources
from ferlab.serving import face_detection

SIDE, EDGE = 192, 96  # pixels of an enlarged face, and around it
COUNT = 300  # faces


def main():
    public = sources.read("fer2013")[0].split("public").faces
    rows = np.random.default_rng(0).choice(len(public), COUNT, replace=False)
    for name in face_detection.DETECTORS:
        face_detection.FRAME[name] = 1
        detector = face_detection.Detector(name)
        measured = [offsets for row in rows if (offsets := _measure(detector, public[row]))]
        low, middle, high = np.percentile(measured, (25, 50, 75), axis=0)
        print(
            f"{name}: on {len(measured)} of {COUNT} faces; FER2013's picture is "
            f"{middle[0]:.2f} times the box ({low[0]:.2f} to {high[0]:.2f}); the box is off by "
            f"{100 * middle[1]:+.1f} % across and {100 * middle[2]:+.1f} % down"
        )


def _measure(detector, face):
    """(the face's side over the largest box's, how far its middle is off, as shares of the side);
    None where no box is found."""
    large = cv2.resize(np.asarray(face), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    scene = cv2.copyMakeBorder(large, EDGE, EDGE, EDGE, EDGE, cv2.BORDER_REPLICATE)
    squares = detector(cv2.cvtColor(scene, cv2.COLOR_GRAY2RGB))
    if not len(squares):
        return None
    x, y, side = squares[squares[:, 2].argmax()]
    middle = EDGE + SIDE / 2
    return SIDE / side, (x + side / 2 - middle) / SIDE, (y + side / 2 - middle) / SIDE


if __name__ == "__main__":
    run(main)
