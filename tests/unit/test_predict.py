"""From any picture to expressions: reading, finding, framing, predicting, and what the command
writes.
"""

import io
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
import skimage.data
from PIL import Image

from ferlab import models
from ferlab.data.classes import CLASSES
from ferlab.data.readers import images
from ferlab.files import UserError
from ferlab.serving import face_detection, predict, predictor
from ferlab.serving.clips import frames
from ferlab.training import backend, model_file
from tests.builders import usable

FACE = (170, 60, 110)  # x, y, side: about where the astronaut's face is


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def overlap(square, other):
    """Shared area over joint area of two squares."""
    (x, y, side), (u, v, edge) = square, other
    shared = max(0, min(x + side, u + edge) - max(x, u)) * max(
        0, min(y + side, v + edge) - max(y, v)
    )
    return shared / (side**2 + edge**2 - shared)


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A `small` network that has learned nothing, as a file."""
    backend.start("tensorflow")
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model_file.save(models.build("small", len(CLASSES), 0.0), path, usable())
    return path


@pytest.fixture
def folder(tmp_path, astronaut):
    place = tmp_path / "photos"
    (place / "deeper").mkdir(parents=True)
    photo = Image.fromarray(astronaut)
    photo.save(place / "one.jpg")
    Image.fromarray(np.hstack([astronaut, astronaut[:, ::-1]])).save(place / "deeper/two.png")
    Image.new("RGB", (300, 200), "gray").save(place / "none.webp")
    Image.fromarray(images.cut(astronaut, FACE)).save(place / "whole.bmp")
    (place / "notes.txt").write_text("not a picture")
    return place


def ramp(mode="L"):
    """40x20, dark on the left."""
    return Image.fromarray(np.tile(np.linspace(0, 255, 40, dtype=np.uint8), (20, 1))).convert(mode)


def test_a_photo_is_turned_as_its_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    found = np.asarray(images.decode(encoded(ramp("RGB"), "JPEG", exif=exif), "x"))
    assert found.shape[:2] == (40, 20)
    assert found[0].mean() < 20
    assert found[-1].mean() > 235


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(np.asarray(ramp()).astype(np.uint16) * 257), "PNG"),
        (Image.fromarray(np.asarray(ramp()).astype(np.int32) * 257), "TIFF"),
        (ramp("CMYK"), "JPEG"),
        (ramp("RGBA"), "PNG"),
        (ramp("LA"), "PNG"),
        (ramp("P"), "GIF"),
        (ramp("RGB"), "WEBP"),
    ],
    ids=["16 bit", "32 bit", "CMYK", "RGBA", "LA", "palette", "webp"],
)
def test_every_kind_of_picture_gives_the_same_face(image, kind):
    plain = images.face(images.decode(encoded(ramp()), "x")).astype(int)
    found = images.face(images.decode(encoded(image, kind), "x")).astype(int)
    assert np.abs(found - plain).max() <= 12
    assert (images.read(encoded(image, kind), "x")[0] == found).all()


def test_what_is_transparent_is_white_and_of_an_animation_the_first_frame_counts():
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    assert images.face(images.decode(encoded(clear), "x")).min() == 255
    frames = [Image.new("L", (30, 30), value) for value in (10, 200)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.face(images.decode(moving, "x")).max() == 10


def test_pictures_that_cannot_be_read_are_one_line():
    with pytest.raises(UserError, match="x: not an image"):
        images.decode(b"hello, this is text", "x")
    with pytest.raises(UserError, match="x: damaged image"):
        images.decode(encoded(ramp())[:60], "x")
    with pytest.raises(UserError, match="x: 60000x60000 pixels, at most|x: far too many"):
        images.decode(b"P5 60000 60000 255\n" + b"\0" * 100, "x")
    assert (
        images.face(images.decode(encoded(Image.new("L", (1, 1), 7)), "x")).tolist()
        == [[7] * 48] * 48
    )


def test_a_square_beyond_the_edge_repeats_the_edge():
    picture = np.zeros((100, 80, 3), np.uint8)
    picture[:, :10] = 200
    assert images.cut(picture, (-48, 0, 48)).min() == 200
    assert images.cut(picture, (80, 90, 48)).max() == 0
    assert (images.cut(picture[..., 0], (0, 0, 80)) == images.cut(picture, (0, 0, 80))).all()


def test_a_long_thin_picture_is_no_huge_square(model):
    long = np.zeros((2, 400_000, 3), np.uint8)
    assert images.cut(long, predictor.whole(long)[0]).shape == (48, 48)
    assert face_detection.Detector("haar")(np.zeros((10, 50_000, 3), np.uint8)).shape == (0, 3)


@pytest.mark.parametrize("name", face_detection.DETECTORS)
def test_a_face_is_found_in_place_and_of_many_the_largest_first(astronaut, name):
    find = face_detection.Detector(name)
    (one,) = find(astronaut)
    assert overlap(one, FACE) > 0.6
    small = cv2.resize(astronaut[:300], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    wide = np.vstack([np.hstack([small, small[:, ::-1]]), astronaut[:300]])
    first, *others = find(wide)
    assert overlap(first, (FACE[0], FACE[1] + 150, FACE[2])) > 0.6
    left, right = sorted(others, key=lambda square: square[0])
    assert overlap(left, np.array(FACE) // 2) > 0.5
    assert overlap(right, (512 - (FACE[0] + FACE[2]) // 2, FACE[1] // 2, FACE[2] // 2)) > 0.5
    for empty in (np.full((200, 300, 3), 128, np.uint8), astronaut[:5, :5]):
        assert find(empty).shape == (0, 3)


@pytest.mark.parametrize("pixels", [1280, 3000])
def test_a_large_photo_of_one_person_has_one_face(astronaut, pixels):
    """The suit's flag and folds were faces, too, and before the true one: "sad 74 %"."""
    (one,) = face_detection.Detector("haar")(cv2.resize(astronaut, (pixels, pixels)))
    assert overlap(one * 512 / pixels, FACE) > 0.6


def test_tiny_faces_are_kept_among_tiny_ones_and_where_they_are_asked_for(astronaut):
    head = cv2.resize(astronaut[30:200, 140:310], (80, 80), interpolation=cv2.INTER_AREA)
    crowd = np.hstack([head] * 12)  # each about 45 pixels
    assert len(face_detection.Detector("haar")(crowd)) >= 10
    beside = np.full((512, 620, 3), 128, np.uint8)
    beside[:, :512], beside[20:84, 540:604] = astronaut, cv2.resize(head, (64, 64))
    assert len(face_detection.Detector("haar")(beside)) == 1
    both = face_detection.Detector("haar", min_face=24)(beside)
    assert len(both) >= 2
    assert (np.diff(both[:, 2]) <= 0).all()
    assert len(face_detection.Detector("haar", min_face=150)(beside)) == 0


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_photo_that_lies_on_its_side_is_tried_turned(astronaut, model, turn, tmp_path, capsys):
    lying = np.rot90(astronaut[:400], -turn)
    network = predictor.Predictor(str(model), "haar")
    ((upright, expected),) = network([astronaut[:400]])
    ((found, given),) = network([lying])
    assert found.turn == turn
    for square in found.squares:  # on the photo as it is
        x, y, side = square
        assert 0 <= x <= lying.shape[1] - side and 0 <= y <= lying.shape[0] - side
    # where pixels are averaged in another order, the last digit may differ
    cut, wanted = found.cut(lying).astype(int), upright.cut(astronaut[:400]).astype(int)
    assert np.abs(cut - wanted).max() <= 1
    np.testing.assert_allclose(given, expected, atol=1e-3)
    ((none, _),) = network([lying], turn=False)
    assert len(none.squares) == 0
    Image.fromarray(lying).save(tmp_path / "lying.png")
    predict.predict([tmp_path / "lying.png"], tmp_path / "out", str(model), "haar")
    said = capsys.readouterr().out
    assert ("(upside down)" if turn == 2 else "(lying on its side)") in said


def test_pictures_without_a_face_have_none_turned_either():
    find = face_detection.Detector("haar")
    for name in ("coffee", "rocket", "cat", "clock", "moon"):
        picture = getattr(skimage.data, name)()
        picture = np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture
        assert find.upright(picture).squares.tolist() == [], name


def test_what_is_taken_whole_as_a_face_is_said(tmp_path, model, capsys):
    Image.fromarray(np.full((48, 48), 90, np.uint8)).save(tmp_path / "gray.png")
    predict.predict([tmp_path / "gray.png"], tmp_path / "out", str(model), "haar")
    assert "% (no face found: taken whole as a face)" in capsys.readouterr().out
    predict.predict([tmp_path / "gray.png"], tmp_path / "out", str(model), "none")
    assert "no face found" not in capsys.readouterr().out


@pytest.mark.parametrize("inside", [False, True], ids=["named", "in a folder"])
def test_a_heic_photo_is_named_as_such(inside, tmp_path, model, capsys):
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos/IMG_0001.HEIC"
    photo.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    if inside:
        with pytest.raises(UserError, match="it holds 1 .heic; save HEIC as JPEG"):
            predict.predict([photo.parent], tmp_path / "out", str(model), "haar")
        return
    assert predict.predict([photo], tmp_path / "out", str(model), "haar") == 1
    assert "IMG_0001.HEIC: HEIC, which is not read here; save it as JPEG" in capsys.readouterr().err


def test_an_unknown_detector_is_one_line():
    with pytest.raises(UserError, match="detector 'eyes': unknown; choose haar or mtcnn"):
        face_detection.Detector("eyes")


def test_the_network_sees_what_training_would_and_order_and_company_change_nothing(
    model, astronaut
):
    network = predictor.Predictor(str(model), "none")
    cut = np.stack([images.cut(astronaut, (x, 60, 110)) for x in range(100, 275, 25)])
    together = network.probabilities(cut)
    assert together.shape == (7, 7)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    for face, given in zip(cut, together, strict=True):
        np.testing.assert_allclose(network.probabilities(face[None])[0], given, atol=1e-5)
    (_, first), (_, second) = network([astronaut[60:170, 170:280], astronaut[60:170, 100:210]])
    np.testing.assert_allclose(
        np.concatenate([first, second]),
        network.probabilities(
            np.stack([images.cut(astronaut, FACE), images.cut(astronaut, (100, 60, 110))])
        ),
        atol=1e-5,
    )


def test_a_folder_gives_a_table_and_pictures_and_a_damaged_one_is_told(
    folder, tmp_path, model, capsys
):
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    out = tmp_path / "out"
    assert predict.predict([folder], out, str(model), "haar") == 1
    said = capsys.readouterr()
    assert "damaged.png: " in said.err
    assert said.err.count("\n") == 1
    assert "none.webp: no face found" in said.out
    assert predict.predict([folder / "damaged.png"], tmp_path / "nothing", str(model), "haar") == 1
    table = pd.read_csv(out / "predictions.csv")
    assert table.groupby("file").size().to_dict() == {
        "deeper/two.png": 2,
        "one.jpg": 1,
        "whole.bmp": 1,
    }
    assert table["face"].tolist() == [0, 1, 0, 0]
    assert list(table.columns[10:]) == [f"p_{name}" for name in CLASSES]
    np.testing.assert_allclose(table.iloc[:, 10:].sum(axis=1), 1, rtol=1e-4)
    assert (table["probability"] == table.iloc[:, 10:].max(axis=1)).all()
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == {
        "predictions.csv",
        "one.jpg",
        "deeper/two.png",
        "none.webp.png",
        "whole.bmp.png",
    }
    assert predict.predict([folder / "one.jpg"], out, str(model), "haar", json=True) == 0
    (row,) = json.loads((out / "predictions.json").read_text())
    assert overlap((row["x"], row["y"], row["width"]), FACE) > 0.6
    changed = (
        np.abs(np.asarray(Image.open(out / "one.jpg")).astype(int) - skimage.data.astronaut()).max(
            axis=2
        )
        > 60
    )
    assert 0.001 < changed.mean() < 0.1


def test_large_photos_are_not_held_all_at_once(tmp_path, monkeypatch):
    """At most so many pixels at a time, or a single larger one; the order stays."""
    sides, held = (10, 30, 10, 10, 40, 10), []
    for number, side in enumerate(sides):
        picture = np.zeros((side, side, 3), np.uint8)
        (tmp_path / f"{number}.png").write_bytes(encoded(Image.fromarray(picture)))

    def predictor(pictures):
        held.append([picture.shape[0] for picture in pictures])
        return [(face_detection.Faces(np.zeros((0, 3), np.int64)), np.zeros((0, 7)))] * len(
            pictures
        )

    predictor.words = lambda probabilities: []
    monkeypatch.setattr(predict, "PIXELS", 1000)
    entries = [(tmp_path / f"{number}.png", Path(f"{number}.png")) for number in range(len(sides))]
    assert predict._predict_photos(predictor, entries, tmp_path / "out", []) == 0
    assert held == [[10, 30], [10, 10], [40], [10]]


def test_equal_names_do_not_replace_each_other_and_no_original_is_replaced(folder, tmp_path):
    (tmp_path / "one.jpg").write_bytes((folder / "one.jpg").read_bytes())
    found = predict.gather([folder / "one.jpg", tmp_path / "one.jpg", folder], tmp_path / "out")
    names = [str(name) for _, name in found]
    assert names[:2] == ["one.jpg", "one-2.jpg"]
    assert len(set(names)) == len(names) == 6
    for name in ("a.webp", "a.webp.png", "b.jpg"):
        (folder / name).write_bytes(b"")
    written = [predict.result_name(name) for _, name in predict.gather([folder], tmp_path / "out")]
    assert len(set(written)) == len(written) == 7
    with pytest.raises(
        UserError, match=r"one.jpg: would be replaced by its own result; choose another --out"
    ):
        predict.gather([folder / "one.jpg"], folder)
    with pytest.raises(UserError, match="nowhere.jpg: not found"):
        predict.gather([tmp_path / "nowhere.jpg"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no picture and no clip"):
        predict.gather([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(UserError, match="would be replaced by its own|is there already"):
        predict.gather([folder], folder)
    (tmp_path / "else").mkdir()
    (tmp_path / "else/one.jpg").write_bytes(b"somebody's")
    with pytest.raises(UserError, match=r"else/one.jpg: is there already, and no predictions.csv"):
        predict.gather([folder / "one.jpg"], tmp_path / "else")
    (tmp_path / "else/predictions.csv").write_bytes(b"of an earlier call")
    assert predict.gather([folder / "one.jpg"], tmp_path / "else")
    (tmp_path / "one.jpg").unlink()
    assert predict.gather([folder], folder.parent)  # a folder above is no result
    (folder / "out").mkdir()
    (folder / "out/old.png").write_bytes(b"of an earlier call")
    assert not any("old" in str(name) for _, name in predict.gather([folder], folder / "out"))


def test_a_folder_lists_pictures_of_all_endings_and_tells_what_it_leaves_out(
    folder, tmp_path, capsys
):
    found = {name for _, name in predict.gather([folder], tmp_path / "out")}
    more = ["a.jfif", "b.JPE", "c.avif"]
    junk = ["._one.jpg", ".thumbnails/one.jpg", "__MACOSX/one.jpg"]
    for name in (*more, *junk, "d.heic", "deeper/e.HEIC"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    capsys.readouterr()
    names = {name for _, name in predict.gather([folder], tmp_path / "out")}
    assert {str(name) for name in names - found} == set(more)
    said = capsys.readouterr().out
    left_out = "left out what is no picture or clip that is read: 2 .heic, 1 .txt"
    assert said.endswith(f"{left_out}; save HEIC as JPEG\n")
    latin = folder.rename(folder.with_name(os.fsdecode(b"M\xfcnchen")))
    predict.gather([latin], tmp_path / "out")
    assert "M\\xfcnchen: left out what is no picture" in capsys.readouterr().out


def test_a_photo_of_a_telephone_is_halved_and_one_without_end_refused(monkeypatch):
    """As of 50 to 250 million pixels, at a thousandth of the size."""
    monkeypatch.setattr(images, "MAX_PIXELS", 50_000)
    monkeypatch.setattr(images, "MAX_JPEG", 250_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478)
    picture = Image.linear_gradient("L").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    for size, side in (
        ((240, 208), (240, 208)),
        ((256, 200), (128, 100)),
        ((522, 382), (261, 191)),
    ):
        large = encoded(picture.resize(size), "JPEG", exif=exif, quality=95)
        found = images.decode(large, "x")
        assert found.size == side[::-1]
        plain = np.asarray(picture.resize(side).transpose(Image.Transpose.ROTATE_270)).astype(int)
        assert np.abs(np.asarray(found).astype(int) - plain).mean() < 4
    for content in (
        encoded(picture.resize((600, 420)), "JPEG"),
        encoded(picture.resize((256, 200)), "JPEG", progressive=True),
        encoded(picture.resize((256, 200))),
    ):
        with pytest.raises(UserError, match="pixels, at most .* of a JPEG .* make it smaller"):
            images.decode(content, "x")


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("the network", RuntimeError, "out of memory"),
        ("the writer", UserError, "cannot write a clip"),
    ],
)
def test_a_clip_that_fails_midway_leaves_nothing_and_lets_the_file_go(
    tmp_path, fault, error, said, monkeypatch
):
    source = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(3):
        writer.write(np.zeros((64, 96, 3), np.uint8))
    writer.release()

    def failing(pictures, turn):
        raise RuntimeError("out of memory")

    if fault == "the writer":
        monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda self: False)
    with pytest.raises(error, match=said):
        frames.predict_clip(failing, str(source), "walk.avi", tmp_path / "out/walk.mp4", [])
    assert list((tmp_path / "out").iterdir()) == []
    assert str(source) not in [file.path for file in psutil.Process().open_files()]


def test_a_clip_is_predicted_frame_by_frame(tmp_path, astronaut, model, capsys):
    writer = cv2.VideoWriter(
        str(tmp_path / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (512, 512)
    )
    for step in range(3):
        writer.write(cv2.cvtColor(np.roll(astronaut, 40 * step, axis=1), cv2.COLOR_RGB2BGR))
    writer.release()
    assert predict.predict([tmp_path / "walk.avi"], tmp_path / "out", str(model), "haar") == 0
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    assert table["frame"].tolist() == [0, 1, 2]
    assert table["seconds"].tolist() == [0, 0.1, 0.2]
    assert table["face"].tolist() == [0, 0, 0]
    assert np.abs(np.diff(table["x"]) - 40).max() <= 8
    clip = cv2.VideoCapture(str(tmp_path / "out/walk.avi.mp4"))
    assert clip.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    said = capsys.readouterr().out
    assert "walk.avi: 3 frames, 0.3 s, 1 different face, 3 times; over time: " in said
    assert Image.open(tmp_path / "out/walk.avi.chart.png").size[0] > 500
    (tmp_path / "broken.mp4").write_bytes(b"not a clip")
    assert predict.predict([tmp_path / "broken.mp4"], tmp_path / "out", str(model), "haar") == 1
    assert "broken.mp4: not a clip that OpenCV reads" in capsys.readouterr().err
    assert not (tmp_path / "out/broken.mp4").exists()


def test_a_camera_is_watched_until_it_is_stopped_and_one_that_is_not_there_is_one_line(
    tmp_path, astronaut, model, capsys, monkeypatch
):
    class Camera:
        frames, stops_after = 0, 3

        def read(self):
            self.frames += 1
            if self.frames > self.stops_after:
                raise KeyboardInterrupt
            return True, cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR)

        def get(self, _):
            return 0

        def release(self):
            pass

    with pytest.raises(UserError, match="camera 97: cannot be opened"):
        predict.predict([], tmp_path / "out", str(model), "haar", camera=97)
    assert not (tmp_path / "out").exists()
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR))
    with pytest.raises(UserError, match="camera 97: cannot be opened"):
        predict.predict([tmp_path / "photo.png"], tmp_path / "kept", str(model), "haar", camera=97)
    assert len(pd.read_csv(tmp_path / "kept/predictions.csv")) == 1
    with pytest.raises(UserError, match="nothing to predict"):
        predict.predict([], tmp_path / "out", str(model), "haar")
    opened = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source: Camera() if source == 0 else opened(source)
    )
    assert predict.predict([], tmp_path / "out", str(model), "haar", camera=0) == 0
    said = capsys.readouterr().out
    assert "camera-0.mp4: 3 frames, " in said and "1 different face, 3 times" in said
    assert "stopped; what was found so far is kept" in said
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 3
    assert (tmp_path / "out/camera-0.mp4").exists()

    Camera.stops_after = 1000  # and now it is `--seconds` that ends it
    assert predict.predict([], tmp_path / "t", str(model), "haar", camera=0, seconds=0.2) == 0
    said = capsys.readouterr().out
    frames = len(pd.read_csv(tmp_path / "t/predictions.csv"))
    assert 0 < frames < 1000 and "stopped" not in said


def test_an_unknown_model_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="majority: this recipe trains no network"):
        predictor.Predictor("majority", "none")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(
        UserError,
        match="never: no model file, recipe, DVC experiment or MLflow run; known: workspace",
    ):
        predictor.Predictor("never", "none")


def test_names_that_are_no_text_or_too_long_cost_one_photo_at_most(
    tmp_path, astronaut, model, capsys
):
    photo = encoded(Image.fromarray(astronaut), "JPEG")
    photos = tmp_path / "photos"
    for place in (photos / "real" / "a.jpg", tmp_path / "elsewhere" / "b.jpg"):
        place.parent.mkdir(parents=True)
        place.write_bytes(photo)
    (photos / "again").symlink_to(photos / "real")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / ("x" * 250 + ".jpg")).write_bytes(photo)
    latin = os.fsdecode(b"M\xfcller.jpg")
    (photos / latin).write_bytes(photo)
    assert predict.predict([photos], tmp_path / "out", str(model), "none") == 1
    said = capsys.readouterr()
    assert "x.jpg: the name is too long for a result; shorten it" in said.err
    assert "M\\xfcller.jpg: " in said.out
    listed = pd.read_csv(tmp_path / "out/predictions.csv")["file"].tolist()
    assert listed == ["M\\xfcller.jpg", "linked/b.jpg", "real/a.jpg"]
    assert (tmp_path / "out" / latin).exists()


def test_a_clip_that_breaks_off_or_cannot_be_written_whole_is_no_success(
    tmp_path, model, capsys, monkeypatch
):
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(40):
        writer.write(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    writer.release()
    broken = tmp_path / "broken.avi"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    monkeypatch.setattr(frames, "_length", lambda capture, source: 40)  # as its head says
    assert predict.predict([broken], tmp_path / "out", str(model), "none") == 1
    said = capsys.readouterr().err
    assert re.search(r"broken.avi: breaks off after \d+ of 40 frames; what was found", said)
    assert (tmp_path / "out/broken.avi.mp4").exists()

    opened = cv2.VideoWriter

    class Full:
        """Its disk is full after 20 frames, of which OpenCV says nothing."""

        def __init__(self, *arguments):
            self.writer, self.count = opened(*arguments), 0
            self.isOpened, self.release = self.writer.isOpened, self.writer.release

        def write(self, picture):
            self.count += 1
            if self.count <= 20:
                self.writer.write(picture)

    monkeypatch.setattr(cv2, "VideoWriter", Full)
    with pytest.raises(UserError, match="whole.avi: the clip could not be written whole"):
        predict.predict([whole], tmp_path / "full", str(model), "none")
    assert not (tmp_path / "full/whole.avi.mp4").exists()
