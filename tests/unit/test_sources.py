"""FER2013 is known by its content, in whatever file, and refused where it is something else."""

import numpy as np
import pytest

from ferlab.data.dataset import Dataset
from ferlab.data.identity import fingerprints
from ferlab.data.readers import sources
from ferlab.files import UserError, read_json
from tests.builders import image, images, tiny, zipped
from tests.forms import CSV, DATA, FORMS, equal, stage

pytestmark = pytest.mark.usefixtures("lab", "few_official")


def test_fer2013_is_known_by_its_content_in_any_container(small_fer2013, tmp_path):
    for form, make in FORMS.items():
        (tmp_path / form).mkdir()
        assert sources.read(str(make(tmp_path / form)))[0].name == "fer2013", form


def test_the_official_pixels_are_one_dataset_in_whatever_order_they_come(
    small_fer2013, tmp_path, monkeypatch
):
    """Rows shuffled, ids of another kind: the same rows, ids and order, as each face is known."""
    table = DATA.table
    known = fingerprints.restored(fingerprints.make(DATA.faces, table["label"], table["split"]))
    monkeypatch.setattr(fingerprints, "read", lambda: known)
    header, *lines = CSV.decode().splitlines()
    random = np.random.default_rng(0).permutation(len(lines))
    (tmp_path / "x.csv").write_text("\n".join([header, *(lines[row] for row in random)]))
    renamed = {
        f"{name.rpartition('/')[0]}/im{number}.png": content
        for number, (name, content) in enumerate(images(DATA, folders={}).items())
    }
    icml, folders = FORMS["icml csv"](tmp_path / "y"), zipped(tmp_path / "z.zip", renamed)
    for path in (tmp_path / "x.csv", icml, folders):
        data, _ = sources.read(str(path))
        assert equal(data, DATA)
        assert data.table["official"].tolist() == list(range(len(DATA.faces)))
        assert data.identity["changes"] == {"exact": len(DATA.faces)}
        assert not data.identity["missing"]


def test_class_folders_of_jpegs_are_fer2013_too_and_say_what_differs(
    small_fer2013, tmp_path, monkeypatch, lab, capsys
):
    jpegs = {
        name.replace(".png", ".jpg"): image(face, "JPEG")
        for name, face in zip(images(DATA), DATA.faces, strict=True)
    }
    path = zipped(tmp_path / "x.zip", jpegs)
    monkeypatch.setitem(sources.NAMES, sources.read(str(path))[0].digest, "fer2013-jpeg")
    monkeypatch.setenv("FER2013", str(path))
    stage("fer2013", monkeypatch)
    assert Dataset.load(lab / "data/raw").name == "fer2013-jpeg"
    assert "1.3 gray levels apart" in capsys.readouterr().out
    monkeypatch.delenv("FER2013")
    monkeypatch.setenv("FER2013_FOLDERS", str(path))
    stage("fer2013-jpeg", monkeypatch)
    assert Dataset.load(lab / "data/raw").name == "fer2013-jpeg"
    monkeypatch.setenv("FER2013_FOLDERS", str(FORMS["zip"](tmp_path / "official")))
    monkeypatch.setitem(sources.NAMES, DATA.digest, "fer2013")
    with pytest.raises(UserError, match="is fer2013; fer2013-jpeg is Kaggle's class folders"):
        stage("fer2013-jpeg", monkeypatch)


def test_fer2013_is_taken_from_the_variable_in_any_form(small_fer2013, tmp_path, monkeypatch, lab):
    tables = []
    for form in ("zip", "csv"):
        monkeypatch.setenv("FER2013", str(FORMS[form](tmp_path / form)))
        stage("fer2013", monkeypatch)
        raw = lab / "data/raw"
        tables.append((raw / "faces.npy").read_bytes() + (raw / "table.csv").read_bytes())
    assert tables[0] == tables[1] and read_json(lab / "data/source.json")["asked"] == "fer2013"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda t: t / "none.zip", "not found"),
        (
            lambda t: zipped(t / "x.zip", images(tiny(train=4))),
            "not FER2013: train/angry has 4 images, FER2013 3",
        ),
        (
            lambda t: zipped(t / "x.zip", images(tiny(seed=1))),
            "not FER2013: the counts are right, but the pixels differ",
        ),
    ],
)
def test_a_wrong_variable_is_an_error_and_nothing_else_is_tried(
    make, message, small_fer2013, tmp_path, monkeypatch, lab
):
    monkeypatch.setenv("FER2013", str(make(tmp_path)))
    monkeypatch.setattr(sources, "download", None)
    with pytest.raises(UserError, match=message):
        stage("fer2013", monkeypatch)
    assert list(lab.iterdir()) == []


def test_the_sample_is_one_of_the_sources(monkeypatch):
    monkeypatch.setattr("ferlab.data.sample.dataset.draw", lambda: DATA)
    assert sources.read("sample") == (DATA, {"kind": "sample"})
