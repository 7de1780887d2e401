"""`python -m benchmarks.frame`: how large a detector's box is beside FER2013's own pictures; the source of ferlab.faces.FRAME.

Needs $FER2013 and the detectors of requirements-use.txt. Public faces, four times as large, their edges going on around them; of
the largest box on each the ratio of sides and how far its middle is off, medians and quartiles.
"""

import cv2
import numpy as np

from benchmarks.bench import run
from ferlab.data.readers import sources
from ferlab.serving import face_detection

SIDE, EDGE, COUNT = 192, 96, 300


def main():
    public = sources.read("fer2013")[0].split("public").faces
    chosen = np.random.default_rng(0).choice(len(public), COUNT, replace=False)
    for name in face_detection.DETECTORS:
        face_detection.FRAME[name] = 1
        find, found = face_detection.Detector(name), []
        for row in chosen:
            large = cv2.resize(np.asarray(public[row]), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            scene = cv2.copyMakeBorder(large, EDGE, EDGE, EDGE, EDGE, cv2.BORDER_REPLICATE)
            squares = find(cv2.cvtColor(scene, cv2.COLOR_GRAY2RGB))
            if len(squares):
                x, y, side = squares[squares[:, 2].argmax()]
                found.append(
                    (
                        SIDE / side,
                        (x + side / 2 - EDGE - SIDE / 2) / SIDE,
                        (y + side / 2 - EDGE - SIDE / 2) / SIDE,
                    )
                )
        low, middle, high = np.percentile(found, (25, 50, 75), axis=0)
        print(
            f"{name}: on {len(found)} of {COUNT} faces; FER2013's picture is {middle[0]:.2f} times the box ({low[0]:.2f} to "
            f"{high[0]:.2f}); the box is off by {100 * middle[1]:+.1f} % across and {100 * middle[2]:+.1f} % down"
        )


if __name__ == "__main__":
    run(main)
