"""Clips and cameras, frame by frame: a copy with a square and a word around each face, and a chart
of the expressions over time."""

import os
import sys
import time
from pathlib import Path

import cv2

from ferlab import files
from ferlab.serving import face_detection
from ferlab.serving.clips import chart
from ferlab.serving.clips.tracks import SMOOTH, Tracks

NAMES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
LONGEST = 225  # bytes of a clip's name: while it is written, more is put around it, up to 255
WHOLE = 0.9  # share of the frames that a file says it has; some say a few too many
FALLBACK_RATE = 25  # frames a second, where a camera or a damaged file gives none that can be


def predict_clip(predictor, source, name, target, rows, seconds=None, every=1, smooth=SMOOTH):
    """Predict every frame of a file (a str), or of a camera (its number) until Ctrl-C or for some
    seconds.

    name: what the output calls it. target: the .mp4 to write; beside it a chart is written. rows:
    gets (name, frame, seconds, number of the face, square, probabilities) of each face. every: only
    each such frame is looked at, and what was found is drawn on the next ones, too. smooth: as in
    Tracks. Returns 1 where the file cannot be read, or not to its end, else 0; raises UserError
    where there is no such camera or the clip cannot be written whole, and KeyboardInterrupt, with
    everything written, after a Ctrl-C.
    """
    if refused := _refused(source, target):
        print(f"error: {files.printable(name)}: {refused}; rename it", file=sys.stderr)
        return 1
    capture = cv2.VideoCapture(source)
    try:
        readable, frame = capture.read()
        if not readable:
            return _unreadable(source)
        rate, stopped, before = _rate(capture), False, len(rows)
        frames = _Frames(predictor, name, rows, rate, isinstance(source, int), every, smooth)
        with files.replacing(target) as part:
            temporary = part.with_name(f"{part.name}.mp4")  # OpenCV insists on the ending
            writer = _writer(temporary, name, rate, frame.shape)
            length = _length(capture, source)
            bar, written = progress(None, files.printable(name), total=length), 0
            try:
                for picture in _pictures(capture, frame, seconds):
                    shown = cv2.cvtColor(frames.predict(picture), cv2.COLOR_RGB2BGR)
                    for _ in range(frames.due() - written):
                        writer.write(shown)
                        written += 1
                    bar.update(1)
            except KeyboardInterrupt:
                stopped = True
            finally:
                writer.release()
                bar.close()
            _check_written(temporary, name, written)
            temporary.rename(part)
    finally:
        capture.release()
    picture = target.with_name(f"{Path(name).name}.chart.png")
    print(_summary(frames, rows[before:], predictor.classes, picture))
    if stopped:
        raise KeyboardInterrupt
    if length and seconds is None and frames.count < WHOLE * length:
        print(
            f"error: {source}: breaks off after {frames.count} of {length} frames; what was found "
            "till then is kept; convert or copy it anew",
            file=sys.stderr,
        )
        return 1
    return 0


def _refused(source, target):
    """Why a clip cannot be copied by its name, or None."""
    if len(os.fsencode(target.name)) > LONGEST:
        return "too long a name for a copy of it"
    try:
        f"{source}{target}".encode()
    except UnicodeEncodeError:  # OpenCV would end the process
        return "a path that is not UTF-8"
    return None


def progress(iterable, text, quiet=False, **options):
    """A bar on a terminal."""
    from tqdm import tqdm

    return tqdm(iterable, text, disable=True if quiet else None, leave=False, **options)


def _summary(frames, rows, classes, path):
    """A line on a clip; draws its chart at `path`."""
    about = f"{files.printable(frames.name)}: {frames.count} frames, {frames.seconds():.1f} s"
    if not rows:
        return f"{about}, no face found"
    times, numbers = [row[2] for row in rows], [row[3] for row in rows]
    drawn = chart.write(path, times, numbers, [row[5] for row in rows], classes)
    different = len(set(numbers))
    people = f"{different} different face{'' if different == 1 else 's'}"
    chart_of = f"over time: {files.printable(path)}"
    more = chart_of if drawn else "no chart, as seaborn is not installed"
    return f"{about}, {people}, {len(rows)} times; {more}"


class _Frames:
    """The frames of a clip or a camera while they are predicted; count: how many there were."""

    def __init__(self, predictor, name, rows, rate, is_camera, every, smooth):
        self.predictor, self.name, self.rows, self.rate = predictor, name, rows, rate
        self.is_camera, self.every, self.tracks = is_camera, every, Tracks(smooth)
        self.count, self.began, self.expressions = 0, time.monotonic(), None
        self.shown = ()  # squares and words

    def seconds(self):
        """Since the clip began, by its frames, or by the clock of a camera."""
        return time.monotonic() - self.began if self.is_camera else self.count / self.rate

    def due(self):
        """How many frames the copy has to have by now. What a camera gave too slowly is shown for
        as long as it was there.
        """
        return max(self.count, round(self.seconds() * self.rate))

    def predict(self, picture):
        """A copy of an RGB picture with its faces, added to `rows`; prints a camera's changes."""
        if self.count % self.every == 0:
            self._look(picture)
        self.count += 1
        return face_detection.draw(picture, *self.shown)

    def _look(self, picture):
        ((faces, probabilities),) = self.predictor([picture], turn=False)
        seconds, squares = self.seconds(), faces.squares
        numbers, smoothed = self.tracks(seconds, squares, probabilities)
        at = (files.printable(self.name), self.count, round(seconds, 3))
        found = zip(numbers, squares.tolist(), smoothed, strict=True)
        self.rows += [(*at, *face) for face in found]
        words = self.predictor.words(smoothed)
        expressions = [self.predictor.classes[row.argmax()] for row in smoothed]
        if self.is_camera and expressions != self.expressions:
            print(f"{seconds:6.1f} s  {', '.join(words) or 'no face'}", flush=True)
        several = len(words) > 1 or numbers != [0]
        texts = zip(numbers, words, strict=True)
        words = [f"{number}: {text}" if several else text for number, text in texts]
        self.expressions, self.shown = expressions, (squares, words)


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


def _check_written(path, name, count):
    """UserError where a written clip lacks frames: OpenCV does not say that a disk is full."""
    written = cv2.VideoCapture(str(path))
    try:
        if int(written.get(cv2.CAP_PROP_FRAME_COUNT)) < count:
            raise files.UserError(f"{name}: the clip could not be written whole; make room for it")
    finally:
        written.release()


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
