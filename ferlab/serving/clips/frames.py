"""Clips and cameras, frame by frame: a copy with a square and a word around each face."""

import sys
import time

import cv2

from ferlab import files
from ferlab.serving import face_detection

NAMES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
FALLBACK_RATE = 25  # frames a second, where a camera or a damaged file gives none that can be


def predict_clip(predictor, source, name, target, rows, seconds=None):
    """Predict every frame of a file (a str), or of a camera (its number) until Ctrl-C or for some
    seconds.

    name: what the output calls it. target: the .mp4 to write. rows: gets (name, frame, square,
    probabilities) of each face. Returns 1 where the file cannot be read, else 0; raises UserError
    where there is no such camera, and KeyboardInterrupt, with everything written, after a Ctrl-C.
    """
    capture = cv2.VideoCapture(source)
    try:
        readable, frame = capture.read()
        if not readable:
            return _unreadable(source)
        frames, stopped = _Frames(predictor, name, rows, isinstance(source, int)), False
        with files.replacing(target) as part:
            temporary = part.with_name(f"{part.name}.mp4")  # OpenCV insists on the ending
            writer = _writer(temporary, name, _rate(capture), frame.shape)
            bar = progress(None, str(name), total=_length(capture, source))
            try:
                for picture in _pictures(capture, frame, seconds):
                    writer.write(cv2.cvtColor(frames.predict(picture), cv2.COLOR_RGB2BGR))
                    bar.update(1)
            except KeyboardInterrupt:
                stopped = True
            finally:
                writer.release()
                bar.close()
            temporary.rename(part)
    finally:
        capture.release()
    print(f"{name}: {frames.count} frames, {sum(row[0] == str(name) for row in rows)} faces")
    if stopped:
        raise KeyboardInterrupt
    return 0


def progress(iterable, text, quiet=False, **options):
    """A bar on a terminal."""
    from tqdm import tqdm

    return tqdm(iterable, text, disable=True if quiet else None, leave=False, **options)


class _Frames:
    """The frames of a clip or a camera while they are predicted; count: how many were."""

    def __init__(self, predictor, name, rows, is_camera):
        self.predictor, self.name, self.rows, self.is_camera = predictor, name, rows, is_camera
        self.count, self.began, self.expressions = 0, time.monotonic(), None

    def predict(self, picture):
        """A copy of an RGB picture with its faces, added to `rows`; prints a camera's changes."""
        ((squares, probabilities),) = self.predictor([picture])
        faces = zip(squares.tolist(), probabilities, strict=True)
        self.rows += [(str(self.name), self.count, *face) for face in faces]
        words = self.predictor.words(probabilities)
        expressions = [self.predictor.classes[row.argmax()] for row in probabilities]
        if self.is_camera and expressions != self.expressions:
            seconds = time.monotonic() - self.began
            print(f"{seconds:6.1f} s  {', '.join(words) or 'no face'}", flush=True)
        self.expressions, self.count = expressions, self.count + 1
        return face_detection.draw(picture, squares, words)


def _pictures(capture, frame, seconds):
    """The frames as RGB pictures, from the first, already read, to the last or for some seconds."""
    readable, began = True, time.monotonic()
    while readable and (seconds is None or time.monotonic() - began < seconds):
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        readable, frame = capture.read()


def _length(capture, source):
    """How many frames a file says that it has; None where that is unknown."""
    frames = 0 if isinstance(source, int) else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return frames if frames > 0 else None


def _unreadable(source):
    if isinstance(source, int):
        raise files.UserError(
            f"camera {source}: cannot be opened; see which there are: ls /dev/video*"
        )
    print(f"error: {source}: not a clip that OpenCV reads; convert it to mp4", file=sys.stderr)
    return 1


def _rate(capture):
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 1 <= rate <= 240 else FALLBACK_RATE


def _writer(path, name, rate, shape):
    """OpenCV's writer of frames of this shape (H, W, 3); UserError where it has none."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, shape[1::-1])
    if not writer.isOpened():
        raise files.UserError(
            f"{name}: OpenCV cannot write a clip of {shape[1]}x{shape[0]} pixels here"
        )
    return writer
