"""Further faces of any layout, size, colour and spelling are read; what is left out is counted."""

import gzip
import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from ferlab import params
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE
from ferlab.data.readers import extra
from ferlab.evaluation import inference, robustness, scoring, tables
from ferlab.files import UserError
from tests.builders import about, csv_text, folder, image, tiny, zipped


class Network:
    """Names the class whose index is the face's mean gray, in steps of 30; counts its calls."""

    output_shape, asked = (None, len(CLASSES)), 0

    def predict_on_batch(self, faces):
        self.asked += 1
        return np.eye(len(CLASSES), dtype=np.float32)[
            np.clip(faces.mean(axis=(1, 2, 3)) // 30, 0, 6).astype(int)
        ]


def gray(label, side=SIZE):
    return np.full((side, side), 30 * CLASSES.index(label) + 15, np.uint8)


@pytest.fixture
def pictures():
    """Three spellings, three sizes, one in colour; and an unknown class, a damaged file, one in no
    folder."""
    return {
        "set/anger/1.png": image(gray("angry")),
        "set/Happiness/2.jpg": image(gray("happy", 96), "JPEG"),
        "set/sadness/3.png": image(gray("sad", 31), mode="RGB"),
        "set/contempt/4.png": image(gray("sad")),
        "set/fear/5.png": b"no image",
        "6.png": image(gray("sad")),
        "set/readme.txt": b"hello",
        "set/fear/7.HEIC": b"of a telephone",
        "__MACOSX/set/anger/._1.png": b"of macOS",
    }


@pytest.mark.parametrize("form", [folder, zipped])
def test_class_folders_of_any_kind_are_read_and_what_is_left_out_is_named(form, pictures, tmp_path):
    path = form(tmp_path / ("faces" if form is folder else "faces.zip"), pictures)
    faces = extra.read(str(path))
    assert faces.name == "faces"
    assert faces.labels == ["happy", "angry", "sad"]  # in the order of their ids
    assert faces.faces.shape == (3, SIZE, SIZE)
    reasons = ("damaged", "in no class folder", "of no kind that is read (.heic)")
    reasons += ("of the unknown class contempt",)
    assert faces.left_out == dict.fromkeys(reasons, 1)


def test_a_csv_may_hold_other_sizes_names_and_codes(tmp_path):
    path = tmp_path / "faces.csv"
    square = " ".join(["7"] * 16)
    rows = [
        f"3,{square}",
        f"Happiness,{square}",
        f"7,{square}",
        "6,1 2 3",
        "sad,1 2 x 4",
        "0,300 1 1 1",
    ]
    path.write_text("\n".join(["emotion, pixels", *rows]) + "\n")
    faces = extra.read(str(path))
    assert faces.labels == ["happy", "happy"]
    assert faces.faces.shape == (2, SIZE, SIZE) and (faces.faces == 7).all()
    assert faces.left_out == {"damaged": 3, "of the unknown class 7": 1}
    path.write_text(csv_text(tiny()))
    assert len(extra.read(str(path)).faces) == len(tiny().faces)


def test_a_picture_beside_a_csv_does_not_hide_it(tmp_path):
    content = {"faces.csv": csv_text(tiny()).encode(), "preview.png": image(tiny().faces[0])}
    faces = extra.read(str(zipped(tmp_path / "faces.zip", content)))
    assert len(faces.faces) == len(tiny().faces) and not faces.left_out
    inside = content | {"happy/one.png": content["preview.png"]}
    faces = extra.read(str(zipped(tmp_path / "both.zip", inside)))
    assert faces.labels == ["happy"] and faces.left_out == {"in no class folder": 1}


def test_pictures_of_all_endings_are_read(tmp_path):
    kinds = {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.avif": "AVIF", "d": "PNG", "e.pbm": "PPM"}
    files = {f"joy/{name}": image(gray("sad"), kind) for name, kind in kinds.items()}
    faces = extra.read(str(folder(tmp_path / "x", files)))
    assert len(faces.faces) == len(kinds) and faces.left_out == {}
    assert np.abs(faces.faces.astype(int) - gray("sad")).max() <= 2


@pytest.mark.parametrize("side", [48, 200, 512])
def test_a_csv_of_large_faces_is_read(side, tmp_path):
    """The csv module reads no cell of more than 128 KiB by itself."""
    cell = " ".join(["200"] * side * side)
    path = tmp_path / "faces.csv.gz"
    path.write_bytes(gzip.compress(f"emotion,pixels\nsad,{cell}\n3,{cell}\n".encode()))
    faces = extra.read(str(path))
    assert faces.labels == ["sad", "happy"] and (faces.faces == 200).all()


def test_an_endless_line_is_refused_with_its_number(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text(f"emotion,pixels\nsad,{'1 ' * 64}\nsad,{'1 ' * 3_000_000}\n")
    with pytest.raises(UserError, match="faces.csv, line 3: of more than 4 MiB"):
        extra.read(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"contempt/1.png": b""}, "no usable image"),
        ({"a/readme.txt": b"x"}, "neither class folders .* nor a CSV"),
        ({"a.csv": b"x,y\n1,2\n"}, "line 1: no column 'emotion'"),
    ],
)
def test_a_set_with_nothing_usable_is_refused_with_its_name(content, said, tmp_path):
    folder(tmp_path / "faces", content)
    with pytest.raises(UserError, match=said) as caught:
        extra.read(str(tmp_path / "faces"))
    assert "evaluate.extra_datasets" in str(caught.value)


def test_ck48_is_asked_for_and_known_by_its_counts(tmp_path, monkeypatch, pictures):
    monkeypatch.delenv("CK48", raising=False)
    with pytest.raises(UserError, match="CK48=<file>"):
        extra.read("ck48")
    monkeypatch.setenv("CK48", str(zipped(tmp_path / "other.zip", pictures)))
    with pytest.raises(UserError, match="not CK"):
        extra.read("ck48")


@pytest.mark.skipif(not os.environ.get("CK48"), reason="CK48 names no copy of CK+")
def test_the_real_ck48_has_927_usable_faces():
    faces = extra.read("ck48")
    assert len(faces.faces) == 927
    assert faces.left_out == {"of the unknown class contempt": 54}
    groups = Counter(faces.groups)
    assert len(groups) == 309 and set(groups.values()) == {3}


def frames(films, right):
    """Three equal pictures of each film as files of a zip; of the first `right` films a label that
    Network gives, of the others another one."""
    return {
        f"set/{'happy' if film < right else 'sad'}/S{film:03}_001_{frame:08}.png": image(
            gray("happy")
        )
        for film in range(films)
        for frame in (17, 18, 19)
    }


def test_frames_of_one_film_count_once_in_the_interval(tmp_path):
    """Three nearly equal frames of 40 films are 40 independent faces, not 120."""
    path = str(zipped(tmp_path / "films.zip", frames(40, right=28)))
    settings = params.Evaluate(
        flip=False,
        shift=0,
        mistakes=5,
        robustness=False,
        extra_datasets=[{"path": path, "group": r"S\d+_\d+"}],
    )
    table, more = inference.measure(Network(), tiny(), settings)
    tables.write(tmp_path / "predictions.csv", table)
    table = tables.read(tmp_path / "predictions.csv")
    details = scoring.details(table, about("tiny"), None, more)
    scores = details["splits"]["films"]
    assert (scores["n"], scores["groups"], scores["accuracy"]) == (120, 40, 0.7)
    found = scores["accuracy_low"], scores["accuracy_high"]
    assert found == pytest.approx(scoring.interval(28, 40), abs=0.03)
    assert scores["accuracy_low"] < scoring.interval(84, 120)[0] - 0.03
    assert details["six_class"]["films"]["groups"] == 40
    assert "groups" not in details["splits"]["private"]


def test_groups_come_from_a_rule_or_a_column_and_a_rule_that_finds_none_is_refused(tmp_path):
    path = str(zipped(tmp_path / "films.zip", frames(2, right=1)))
    assert extra.read(path).groups == [""] * 6
    assert extra.read({"path": path, "group": r"S\d+"}).groups == ["S000"] * 3 + ["S001"] * 3
    assert set(extra.read({"path": path, "group": r"/S(\d+)_"}).groups) == {"000", "001"}
    with pytest.raises(UserError, match="'Q' finds nothing in set/happy/S000_001_00000017.png"):
        extra.read({"path": path, "group": "Q"})
    square = " ".join(["7"] * 16)
    rows = ["emotion,group,pixels", f"3,ann,{square}", f"3, ann ,{square}", f"4,,{square}"]
    (tmp_path / "faces.csv").write_text("\n".join(rows) + "\n")
    assert extra.read(str(tmp_path / "faces.csv")).groups == ["ann", "ann", ""]


def test_images_without_a_group_are_groups_of_one_and_equal_groups_have_an_interval():
    rows = pd.DataFrame({"id": list("abcd"), "split": "faces", "label": "sad", "official": -1})
    table = tables.make(rows.assign(group=["x", "x", "", ""]), np.eye(7)[[5, 5, 3, 5]], CLASSES)
    scores = scoring.details(table, about("x"))["splits"]["faces"]
    assert scores["groups"] == 3
    # a bootstrap of groups that are all right would say 100 to 100 %
    low, high = scoring.grouped_interval(np.ones(6, bool), list("aabbcc"))
    assert (low, high) == scoring.interval(3, 3)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"path": "a.zip"}, "path: expected path and group"),
        ({"path": "a.zip", "group": "S", "more": "x"}, "path, group, more: expected"),
        ({"path": "a.zip", "group": "("}, "no regular expression"),
        ({"path": "private_unseen_near.zip", "group": "S"}, "names a split or another set"),
    ],
)
def test_a_wrong_rule_of_groups_is_one_line(entry, said):
    values = params.raw()
    values["evaluate"]["extra_datasets"] = [entry]
    with pytest.raises(UserError, match=said) as caught:
        params.parse(values)
    assert "evaluate.extra_datasets" in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_is_evaluated_on_further_faces_and_disturbed_ones(pictures, tmp_path):
    path = str(zipped(tmp_path / "faces.zip", pictures))
    settings = params.Evaluate(
        flip=True, shift=2, mistakes=5, robustness=True, extra_datasets=[path]
    )
    data = tiny()
    table, more = inference.measure(Network(), data, settings)
    details = scoring.details(table, about("tiny"), None, more)
    scores = details["splits"]["faces"]
    assert (scores["n"], scores["accuracy"]) == (3, 1.0)
    assert set(scores["per_class"]) == {
        "angry",
        "happy",
        "sad",
    }  # only what the set has or was given
    assert details["left_out"]["faces"]["damaged"] == 1
    assert len(details["robustness"]) == 1 + 7 * 5
    assert details["splits"]["private"]["n"] == 7
    assert details["splits"]["test"]["n"] == 14
    assert "faces" not in scoring.metrics(details, scoring.cross_entropy(table))


def test_six_class_networks_count_disgust_as_angry_and_leave_out_what_they_lack(tmp_path):
    other = extra.Faces(
        "faces",
        np.zeros((3, SIZE, SIZE), np.uint8),
        ["a", "b", "c"],
        ["disgust", "sad", "fear"],
        ["x", "x", "y"],
        {},
    )
    table, left_out = inference._further(other, np.eye(2)[[0, 1, 1]], ("angry", "sad"))
    assert table["label"].tolist() == ["angry", "sad"] and table["group"].tolist() == ["x", "x"]
    assert left_out == {"of the class fear, which this network does not have": 1}


@pytest.mark.parametrize(
    ("flip", "shift", "views"), [(False, 0, 1), (True, 0, 2), (False, 2, 5), (True, 2, 10)]
)
def test_views_are_averaged(flip, shift, views):
    model, face = Network(), np.zeros((1, SIZE, SIZE), np.uint8)
    inference.predict(model, face, flip, shift)
    assert model.asked == views
    face[0, 10, 20] = 255
    seen = list(inference._views(face[..., None], flip, shift))
    places = {tuple(np.argwhere(view[0, :, :, 0])[0]) for view in seen}
    moved = {
        (10 + y, 20 + x)
        for y, x in [(0, 0)] + [(y, x) for y in (-2, 2) for x in (-2, 2)] * (shift > 0)
    }
    assert places == moved | ({(y, SIZE - 1 - x) for y, x in moved} if flip else set())


@pytest.mark.parametrize("name", robustness.STRENGTHS)
def test_a_disturbance_grows_with_its_strength_and_is_the_same_twice(name):
    faces = tiny(train=2, seed=3).faces
    changes = []
    for strength in robustness.STRENGTHS[name]:
        found = robustness.disturb(faces, name, strength)
        assert found.dtype == np.uint8 and found.shape == faces.shape
        assert (found == robustness.disturb(faces, name, strength)).all()
        changes.append(np.abs(found.astype(int) - faces).mean())
    assert all(np.diff(changes) > 0), changes


def _distances(faces, strength, name):
    """How far the centre of a bright square moves under a disturbance, (N, 2) in pixels (y, x)."""
    y, x = np.mgrid[:SIZE, :SIZE]

    def centre(images):
        images = images.astype(float)
        total = images.sum(axis=(1, 2))
        return np.stack([(images * axis).sum(axis=(1, 2)) / total for axis in (y, x)], axis=1)

    return centre(robustness.disturb(faces, name, strength)) - centre(faces)


def test_each_disturbance_is_as_strong_as_its_unit_says():
    gray = np.random.default_rng(0).integers(100, 156, (200, SIZE, SIZE), dtype=np.uint8)

    def change(name, strength):
        return robustness.disturb(gray, name, strength).astype(float) - gray

    assert (np.abs(change("brightness", 40)) == 40).all()
    signs = np.sign(change("brightness", 40))[:, 0, 0]
    assert 0.3 < (signs > 0).mean() < 0.7
    less = robustness.disturb(gray, "contrast", 60)
    assert less.std(axis=(1, 2)) == pytest.approx(0.4 * gray.std(axis=(1, 2)), rel=0.02)
    assert less.mean(axis=(1, 2)) == pytest.approx(gray.mean(axis=(1, 2)), abs=0.5)
    assert change("noise", 20).std() == pytest.approx(20, rel=0.01)
    black = np.zeros_like(gray)
    hidden = robustness.disturb(black, "occlusion", 12)
    assert ((hidden == 128).sum(axis=(1, 2)) == 12 * 12).all() and set(hidden.flat) == {0, 128}
    blurred = robustness.disturb(gray, "blur", 2)  # of noise it leaves 1 / (2 sigma sqrt(pi))
    inside = blurred[:, 8:-8, 8:-8].std()
    assert inside == pytest.approx(gray.std() / (4 * np.sqrt(np.pi)), rel=0.1)
    squares = np.zeros_like(gray)
    squares[:, 22:26, 22:26] = 255
    moved = np.hypot(*_distances(squares, 8, "shift").T)
    assert moved == pytest.approx(8, abs=0.1)
    aside = np.zeros_like(gray)
    aside[:, 22:26, 36:40] = 255  # 14 pixels to the right of the centre
    turned = np.hypot(*_distances(aside, 30, "rotation").T)
    assert turned == pytest.approx(2 * 14 * np.sin(np.deg2rad(15)), abs=0.1)


def test_robustness_is_measured_on_disturbed_faces():
    faces = tiny(train=2, seed=3).faces

    def knows_the_originals(asked):
        return np.array(
            [0 if (face == own).all() else 1 for face, own in zip(asked, faces, strict=True)]
        )

    rows = robustness.measure(knows_the_originals, faces, np.zeros(len(faces), int))
    plain = rows[rows["disturbance"] == "none"]
    assert (plain["accuracy"].item(), plain["n"].item()) == (1, len(faces))
    assert (rows.drop(plain.index)["accuracy"] < 0.5).all()
    pairs = list(zip(rows["disturbance"], rows["strength"], strict=True))[1:]
    assert pairs == [(name, value) for name, of in robustness.STRENGTHS.items() for value in of]
