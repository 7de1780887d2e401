"""Faces of one's own: whatever folders they lie in, there is something to learn from, to choose the
epoch by and to measure on, and it is said how that came."""

import sys
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from ferlab.data import audit, balance
from ferlab.data.agreement import named
from ferlab.data.readers import extra, sources
from ferlab.evaluation import tables
from ferlab.files import UserError
from stages import train
from tests.builders import folder, image, images, tiny, zipped

OWN = {"angry": "Frown", "happy": "smile", "surprise": "Open mouth"}
ROLES = "public chooses the epoch, private gives the final score"

pytestmark = pytest.mark.usefixtures("few_official")


def faces(per_split, words=OWN, top="", seed=0):
    """{name: bytes} of `per_split` = {folder or "": images a class} in class folders."""
    total, files = sum(per_split.values()), {}
    made = tiny(train=total, splits=(), classes=sorted(words), seed=seed)
    for label, word in words.items():
        rows = iter(made.faces[(made.table["label"] == label).to_numpy()])
        for split, count in per_split.items():
            parts = [top, split, word]
            for k in range(count):
                files["/".join(filter(None, [*parts, f"{k:03}.png"]))] = image(next(rows))
    return files


def read(tmp_path, files):
    return sources.read(str(folder(tmp_path / "x", files)))[0]


def counts(data):
    return dict(Counter(data.table["split"]))


@pytest.mark.parametrize(
    "per_split, expected, said",
    [
        (
            {"": 30},
            {"train": 72, "public": 9, "private": 9},
            "cut from 90 training images: 9 private and 9 public (10 % of each class, drawn with "
            "seed 0; duplicates and near duplicates stay together)",
        ),
        (
            {"train": 20, "test": 5},
            {"train": 54, "public": 6, "private": 15},
            "test images are called private",
        ),
        ({"train": 20}, {"train": 48, "public": 6, "private": 6}, "cut from 60 training images"),
        (
            {"train": 20, "val": 4, "test": 5},
            {"train": 60, "public": 12, "private": 15},
            "validation images are called public",
        ),
        (
            {"train": 20, "validation": 5},
            {"train": 54, "public": 6, "private": 15},
            "validation images are called private",
        ),
        ({"": 3}, {"train": 3, "public": 3, "private": 3}, "3 private and 3 public"),
    ],
)
@pytest.mark.parametrize("words", [OWN, {name: name for name in OWN}], ids=["own", "known"])
def test_any_folders_of_faces_give_the_three_sets_and_it_is_said_how(
    per_split, expected, said, words, tmp_path
):
    data = read(tmp_path, faces(per_split, words))
    assert counts(data) == expected
    notes = data.identity["notes"]
    assert any(said in line for line in notes) and notes[-1] == ROLES
    assert data.classes == tuple(sorted(word.lower() for word in words.values()))
    own = "classes: frown, open mouth, smile (none of FER2013's seven)"
    assert (own in notes) == (words is OWN)
    for split in expected:
        assert set(data.split(split).table["label"]) == set(data.classes)


def test_what_has_all_three_sets_stays_as_it_is_and_has_no_notes(tmp_path):
    data = read(tmp_path, images(tiny()))
    assert "notes" not in data.identity and counts(data) == {"train": 21, "public": 7, "private": 7}


def test_a_zip_in_another_order_is_divided_alike(tmp_path):
    files = faces({"": 12}, top="a/b")
    data = read(tmp_path, faces({"": 12}))
    again, _ = sources.read(str(zipped(tmp_path / "x.zip", dict(reversed(files.items())))))
    assert again.digest == data.digest and again.table.equals(data.table)


def test_the_cut_is_drawn_and_not_the_first_or_last_by_name(tmp_path):
    data = read(tmp_path, faces({"": 100}, {"happy": "happy", "sad": "sad"}))
    numbers = data.split("private").table["id"].str[-3:].astype(int)
    assert 30 < numbers.mean() < 70 and numbers.nunique() > 10


def test_duplicates_and_near_duplicates_are_on_one_side(tmp_path):
    files = faces({"": 20})
    for name, content in list(files.items()):
        files[name.replace(".png", " copy.png")] = content
        face = np.asarray(extra.images.read(content, "")[0], int)
        near = np.clip(face + 3, 0, 255).astype(np.uint8)
        files[name.replace(".png", " near.png")] = image(near)
    data = read(tmp_path, files)
    assert counts(data) == {"train": 144, "public": 18, "private": 18}
    table = audit.audit(data, 0.97)
    assert table.groupby("near_group")["split"].nunique().max() == 1
    assert (table["near_group"] >= 0).all()


def test_where_all_faces_resemble_each_other_they_are_parted_and_that_is_said(tmp_path):
    base, files = tiny(train=1, splits=(), classes=("happy", "sad")).faces, {}
    random = np.random.default_rng(0)
    for k in range(20):
        for face, word in zip(base, ("smile", "frown"), strict=True):
            noisy = np.clip(face.astype(int) + random.integers(-2, 3, face.shape), 0, 255)
            files[f"{word}/{k}.png"] = image(noisy.astype(np.uint8))
    data = read(tmp_path, files)
    assert counts(data) == {"train": 32, "public": 4, "private": 4}
    assert any(
        "but not the near ones of frown, smile: too many" in n for n in data.identity["notes"]
    )


def test_a_class_beside_the_seven_is_one_where_each_split_has_it(tmp_path):
    files = images(tiny(official=False), folders={})
    contempt = {
        f"{split}/Contempt/1.png": image(tiny(seed=k).faces[0])
        for k, split in enumerate(("train", "public", "private"))
    }
    data = read(tmp_path, files | contempt)
    assert "contempt" in data.classes and len(data.classes) == 8
    assert data.identity["notes"][0].startswith("classes: angry, contempt, disgust")
    assert data.identity["notes"][0].endswith("(some of FER2013's seven)")


def test_a_csv_without_a_column_for_splits_is_divided_too(tmp_path):
    made = tiny(train=10, splits=())
    rows = [
        f"{label},{' '.join(map(str, face.ravel()))}"
        for label, face in zip(made.table["label"], made.faces, strict=True)
    ]
    (tmp_path / "x.csv").write_text("\n".join(["emotion,pixels", *rows]))
    data, _ = sources.read(str(tmp_path / "x.csv"))
    assert counts(data) == {"train": 56, "public": 7, "private": 7}


def test_pictures_beside_a_csv_of_faces_are_no_classes(tmp_path):
    from tests.forms import CSV

    files = {"fer.csv": CSV} | {f"{name}/x.png": image(tiny().faces[0]) for name in "ab"}
    assert len(read(tmp_path, files).faces) == 35


def test_classes_that_are_numbers_are_read_back_from_predictions(tmp_path):
    data = read(tmp_path, faces({"": 10}, {"happy": "1", "sad": "2"}))
    shares = np.tile(np.array([[0.25, 0.75]], np.float32), (len(data.faces), 1))
    table = tables.of_dataset(data, shares)
    tables.write(tmp_path / "p.csv", table)
    assert tables.read(tmp_path / "p.csv")["label"].tolist() == table["label"].tolist()


def test_further_faces_are_read_in_the_classes_of_the_network(tmp_path):
    path = str(folder(tmp_path / "more", faces({"": 2})))
    read = extra.read(path, ("frown", "open mouth", "smile"))
    assert sorted(set(read.labels)) == ["frown", "open mouth", "smile"] and not read.left_out
    with pytest.raises(UserError, match="no usable image .* expected folders or labels named angr"):
        extra.read(path)


def test_what_says_nothing_of_other_classes_is_left_out(tmp_path):
    for classes, has in (
        (("frown", "smile"), False),
        (("angry", "disgust", "happy"), False),
        (tiny().classes, True),
        (tuple(sorted({*tiny().classes} - {"disgust"})), True),
        ((*tiny().classes, "contempt"), False),
    ):
        assert tables.has_six_classes(classes) == has, classes
    assert list(named([0, 1, -1], ("frown", "smile"))) == ["", "", ""]


def test_a_split_that_is_not_there_is_told_before_keras_is_loaded(settings, tmp_path):
    tiny().save(tmp_path / "data/balanced")
    lacking = settings(**{"train.select_on": "validation"})
    here = SimpleNamespace(settings=lacking)
    with (
        mock.patch.dict(sys.modules, {"keras": None, "tensorflow": None}),
        pytest.raises(UserError, match="no validation images; set train.select_on: public"),
    ):
        train.main(here, tmp_path / "data/balanced", tmp_path / "model.keras", tmp_path / "h.csv")


def test_the_same_cut_serves_balance_and_division():
    keys, labels = [0, 0, 1, 2], np.array(["a", "b", "a", "a"], object)
    assert balance.whole_groups(range(4), labels, keys, Counter(a=1, b=0)) == [2]
