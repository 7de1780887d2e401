"""Faces are followed through a clip, their probabilities smoothed, and drawn over time."""

import os
import shutil
import time

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ferlab.serving import face_detection, predict
from ferlab.serving.clips import chart, frames, tracks

A, B = (100, 100, 50), (400, 100, 60)  # squares of two faces


def test_a_face_keeps_its_number_while_others_come_go_and_move():
    follow, flat = tracks.Tracks(), np.zeros((2, 3))
    assert follow(0.0, np.array([A, B]), flat)[0] == [0, 1]
    assert follow(0.1, np.array([B, A]), flat)[0] == [1, 0]  # another order
    assert follow(0.2, np.array([(120, 110, 55)]), flat[:1])[0] == [0]
    assert follow(0.9, np.array([B]), flat[:1])[0] == [1]  # was hidden for 0.8 s
    assert follow(1.4, np.array([B]), flat[:1])[0] == [1]
    assert follow(1.5, np.array([A, (800, 0, 50)]), flat)[0] == [2, 3]  # gone for too long; new
    assert follow(1.6, np.zeros((0, 3), np.int64), np.zeros((0, 3)))[0] == []


def test_a_face_keeps_its_number_where_looks_are_far_apart(drawn, tmp_path):
    """As with --every 30, or a slow camera; also where one look in between did not find it."""
    follow, flat = tracks.Tracks(), np.zeros((1, 2))
    at = [0, 1.2, 2.4, 4.8, 6.0]
    for seconds in at:
        if seconds == 4.8:
            assert follow(3.6, np.zeros((0, 3), np.int64), np.zeros((0, 2)))[0] == []
        assert follow(seconds, np.array([A]), flat)[0] == [0]
    assert follow(12.0, np.zeros((0, 3), np.int64), np.zeros((0, 2)))[0] == []
    assert follow(13.2, np.array([A]), flat)[0] == [1]
    chart.write(tmp_path / "x.png", at, [0] * 5, [[0.5, 0.5]] * 5, ("happy", "sad"))
    assert not np.isnan(drawn[0].axes[0].lines[0].get_ydata()).any()


def test_probabilities_are_smoothed_over_time_and_not_over_frames():
    def after(seconds, rate, smooth):
        follow = tracks.Tracks(smooth)
        follow(0.0, np.array([A]), np.array([[1.0, 0.0]]))
        for frame in range(1, round(seconds * rate) + 1):
            given = follow(frame / rate, np.array([A]), np.array([[0.0, 1.0]]))[1]
        assert given.sum() == pytest.approx(1)
        return given[0, 0]

    assert after(0.5, 10, 0.5) == pytest.approx(np.exp(-1))
    assert after(0.5, 50, 0.5) == pytest.approx(np.exp(-1))
    assert after(0.1, 10, 0) == 0


class Predictor:
    """Finds one face, further right in each frame, and is of two minds about it."""

    classes, detector, calls = ("happy", "sad"), None, 0

    def __init__(self, *_):
        pass

    def __call__(self, pictures, turn=True):
        assert not turn
        left = Predictor.calls = Predictor.calls + 1
        row = [[0.9, 0.1], [0.2, 0.8]][left % 2]
        squares = np.array([(20 + left, 10, 40)])
        return [(face_detection.Faces(squares), np.array([row], np.float32))]

    def words(self, probabilities):
        return [f"{row.max():.2f}" for row in probabilities]


def filmed(path, count=12, rate=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (128, 96))
    for step in range(count):
        writer.write(np.full((96, 128, 3), 10 * step, np.uint8))
    writer.release()
    return path


def test_each_nth_frame_is_looked_at_and_the_clip_stays_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "Predictor", Predictor)
    clip = filmed(tmp_path / "walk.avi")
    assert predict.predict([clip], tmp_path / "out", every=5, smooth=0) == 0
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    assert table["frame"].tolist() == [0, 5, 10]
    assert table["seconds"].tolist() == [0, 0.5, 1]
    assert table["face"].tolist() == [0, 0, 0]
    assert table["probability"].round(3).tolist() in ([0.8, 0.9, 0.8], [0.9, 0.8, 0.9])
    written = cv2.VideoCapture(str(tmp_path / "out/walk.avi.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert "12 frames, 1.2 s, 1 different face, 3 times" in capsys.readouterr().out
    (tmp_path / "films/day1").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "films/day1")
    predict.predict([tmp_path / "films"], tmp_path / "day")
    beside = {path.name for path in (tmp_path / "day/day1").iterdir()}
    assert beside == {"walk.avi.mp4", "walk.avi.chart.png"}
    predict.predict([clip], tmp_path / "smooth", smooth=2)
    smooth = pd.read_csv(tmp_path / "smooth/predictions.csv")["p_happy"].diff().abs()
    assert smooth.max() < 0.1  # of 0.7 from frame to frame


def test_a_clip_with_too_long_a_name_is_one_line(tmp_path, capsys):
    name = f"{'a' * 230}.mp4"
    assert frames.predict_clip(None, "clip.mp4", name, tmp_path / name, []) == 1
    assert (
        capsys.readouterr().err == f"error: {name}: too long a name for a copy of it; rename it\n"
    )


def test_a_clip_whose_path_opencv_cannot_take_is_one_line_and_the_next_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(predict, "Predictor", Predictor)
    clips = [filmed(tmp_path / name) for name in ("f.avi", "g.avi")]
    latin = clips[0].rename(tmp_path / os.fsdecode(b"f\xfcr.avi"))
    assert predict.predict([latin, clips[1]], tmp_path / "out") == 1
    assert capsys.readouterr().err == "error: f\\xfcr.avi: a path that is not UTF-8; rename it\n"
    assert set(pd.read_csv(tmp_path / "out/predictions.csv")["file"]) == {"g.avi"}


def test_what_a_slow_camera_gave_lasts_as_long_in_the_copy(tmp_path, monkeypatch):
    class Slow(Predictor):
        def __call__(self, *arguments, **options):
            time.sleep(0.2)
            return super().__call__(*arguments, **options)

    class Camera:
        left = 4

        def read(self):
            self.left -= 1
            return self.left >= 0, np.zeros((96, 128, 3), np.uint8)

        def get(self, _):
            return 25

        def release(self):
            pass

    opened = cv2.VideoCapture
    monkeypatch.setattr(predict, "Predictor", Slow)
    monkeypatch.setattr(cv2, "VideoCapture", lambda of: Camera() if of == 0 else opened(of))
    assert predict.predict([], tmp_path / "out", camera=0) == 0
    written = opened(str(tmp_path / "out/camera-0.mp4"))
    times = pd.read_csv(tmp_path / "out/predictions.csv")["seconds"]
    lasts = written.get(cv2.CAP_PROP_FRAME_COUNT) / 25
    assert lasts > times.max() - 0.04 > 0.5  # to a frame


@pytest.mark.parametrize("moment", ["while it is drawn", "before"])
def test_a_clip_that_is_broken_off_is_whole_so_far_and_says_so_to_a_script(
    tmp_path, monkeypatch, capsys, moment
):
    class Stopped(Predictor):
        looks = 0

        def __call__(self, *arguments, **options):
            self.looks += 1
            if self.looks == 6 and moment == "before":
                raise KeyboardInterrupt
            return super().__call__(*arguments, **options)

    seen = []

    def draw(picture, *_):
        seen.append(picture)
        if len(seen) == 6 and moment != "before":
            raise KeyboardInterrupt
        return picture

    monkeypatch.setattr(predict, "Predictor", Stopped)
    monkeypatch.setattr(face_detection, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        predict.predict([filmed(tmp_path / "walk.avi")], tmp_path / "out")
    assert "stopped; what was found so far is kept" in capsys.readouterr().out
    written = cv2.VideoCapture(str(tmp_path / "out/walk.avi.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) in (5, 6)


def test_the_chart_shows_when_which_face_had_which_expression(tmp_path):
    times = [0, 0.5, 1, 4, 4.5, 0]
    numbers = [0, 0, 0, 0, 0, 3]
    rows = [[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.2, 0.8], [0.2, 0.8], [1, 0]]
    chart.write(tmp_path / "x.png", times, numbers, rows, ("happy", "sad"))
    one = Image.open(tmp_path / "x.png").size
    chart.write(tmp_path / "y.png", times[:5], numbers[:5], rows[:5], ("happy", "sad"))
    assert one[1] > Image.open(tmp_path / "y.png").size[1]  # a panel more
    table = chart._with_gaps(
        pd.DataFrame({"seconds": times[:5], "happy": np.array(rows[:5])[:, 0]}), 1.0
    )
    assert table["happy"].isna().tolist() == [False, False, False, True, False, False]
    chart.write(tmp_path / "none.png", [], [], [], ("happy", "sad"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png", "y.png"]


def test_frames_of_a_damaged_rate_have_seconds_all_the_same(tmp_path):
    class Capture:
        def get(self, _):
            return 0

    assert frames._rate(Capture()) == frames.FALLBACK_RATE
