"""Every form of the data is read to the same Dataset."""

import numpy as np
import pytest
from PIL import Image

from ferlab.data.dataset import Dataset
from ferlab.data.readers import sources
from ferlab.evaluation import tables
from tests.builders import CODES, USAGE, csv_text, folder, image, images, tiny, zipped
from tests.forms import DATA, FACE, FORMS, equal, stage

pytestmark = pytest.mark.usefixtures("lab", "few_official")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dataset(form, tmp_path):
    data, source = sources.read(str(FORMS[form](tmp_path)))
    assert equal(data, DATA) and data.classes == DATA.classes
    assert data.name == f"custom-{DATA.digest[:8]}" and source["kind"] == "path"
    assert ("csv" in source["form"]) == ("csv" in form or "competition" in form)


def test_codes_of_a_csv_are_mapped_by_name_not_by_order(tmp_path):
    pixels, usages = " ".join(["9"] * 2304), ("Training", "PublicTest", "PrivateTest")
    rows = [f"{code},{pixels},{usage}" for usage in usages for code in (6, 0, 4)]
    (tmp_path / "x.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    data, _ = sources.read(str(tmp_path / "x.csv"))
    assert data.table["label"].tolist() == ["neutral", "angry", "sad"] * 3
    assert data.classes == ("angry", "neutral", "sad")
    ids = ["Training_00000", "Training_00001", "Training_00002", "PublicTest_00003"]
    assert data.table["id"].tolist()[:4] == ids


@pytest.mark.parametrize(
    "spelling",
    [
        {
            "angry": "Anger",
            "disgust": "DISGUSTED",
            "fear": "fearful",
            "happy": "Happiness",
            "neutral": "contentless",
            "sad": "Sadness",
            "surprise": "surprised",
        },
        {"angry": "ANGRY", "fear": "Scared", "neutral": "neutrality"},
        {"fear": "afraid"},
    ],
)
def test_spellings_of_class_folders_are_known(spelling, tmp_path):
    files = images(DATA, spell=lambda name: spelling.get(name, name))
    assert equal(sources.read(str(zipped(tmp_path / "x.zip", files)))[0], DATA)


@pytest.mark.parametrize(
    "written, split",
    [
        ("training", "train"),
        ("Train", "train"),
        ("val", "validation"),
        ("valid", "validation"),
        ("TESTING", "test"),
        ("PublicTest", "public"),
        ("privatetest", "private"),
        ("private", "private"),
    ],
)
def test_spellings_of_split_folders_are_known(written, split, tmp_path):
    files = images(tiny(official=False, splits=())) | {f"{written}/happy/x.png": image(FACE)}
    files |= {"test/happy/y.png": image(FACE)}
    data, _ = sources.read_unidentified(zipped(tmp_path / "x.zip", files))
    assert data.table.set_index("id").loc[f"{split}/happy/x", "split"] == split


def test_names_without_official_prefix_give_ids_from_split_class_and_name(tmp_path):
    plain = tiny(official=False, splits=("validation", "test"))
    path = folder(tmp_path / "x", images(plain, folders={"validation": "val"}))
    data, _ = sources.read_unidentified(path)
    assert equal(data, plain) and set(data.table["split"]) == {"train", "validation", "test"}
    assert data.table["id"].iloc[0] == "train/angry/00000"
    columns = ("id", "emotion", "pixels", "Usage")
    (tmp_path / "x.csv").write_text(csv_text(plain, columns))
    assert equal(sources.read_unidentified(tmp_path / "x.csv")[0], plain)


def test_the_split_folder_decides_and_the_prefix_only_divides_the_test_set(tmp_path):
    files = images(DATA) | {
        "val/sad/Training_77.png": image(FACE),
        "test/sad/Training_78.png": image(FACE),
    }
    table = sources.read(str(zipped(tmp_path / "x.zip", files)))[0].table.set_index("id")
    assert table.loc[["Training_77", "Training_78"], "split"].tolist() == ["validation", "test"]
    assert (table["split"] == "public").sum() == (table["split"] == "private").sum() == 7


def test_one_official_name_in_two_class_folders_keeps_both_images(tmp_path):
    files = images(DATA) | {f"train/{name}/Training_5.png": image(FACE) for name in ("sad", "fear")}
    ids = set(sources.read(str(zipped(tmp_path / "x.zip", files)))[0].table["id"])
    assert {"train/sad/Training_5", "train/fear/Training_5"} < ids and len(ids) == len(files)


def test_images_of_any_mode_and_size_become_gray_48(tmp_path):
    odd = {
        "a.png": image(FACE, mode="RGBA"),
        "b.bmp": image(FACE, "BMP", "RGB"),
        "c.gif": image(FACE, "GIF"),
        "d.png": image(FACE, mode="P"),
        "e.tif": image(FACE, "TIFF"),
        "f.webp": image(FACE, "PPM"),
        "g.png": image(FACE.astype(np.uint16) * 257, mode="I;16"),
        "h.png": image(FACE, size=(96, 96)),
        "i.jpg": image(FACE, "JPEG", "RGB", (24, 30)),
        "j.avif": image(FACE, "AVIF", size=(96, 96)),
        "k.jfif": image(FACE, "JPEG", size=(96, 96)),
    }
    files = images(DATA) | {f"val/happy/{name}": content for name, content in odd.items()}
    data, source = sources.read(str(zipped(tmp_path / "x.zip", files)))
    assert data.sizes == {"24x30": 1, "48x48": len(files) - 4, "96x96": 3}
    faces = data.split("validation").faces.astype(int)
    assert np.abs(faces[:7] - FACE).max() <= 1 and np.abs(faces[7:] - FACE).mean() < 25


@pytest.mark.parametrize("side", [24, 96, 200])
def test_a_csv_of_other_sizes_and_class_names_is_read_as_the_same_pictures_in_folders(
    side, tmp_path
):
    words = ("Anger", "disgust", "fear", "Happiness", "sad", "surprise", "neutral")
    files, rows = {}, ["emotion,pixels,Usage"]
    for code, (label, word) in enumerate(zip(CODES, words, strict=True)):
        for split, usage in USAGE.items():
            face = np.asarray(Image.fromarray(DATA.faces[code]).resize((side, side)))
            files[f"{split}/{label}/{usage}_{code}.png"] = image(face)
            rows.append(f"{word},{' '.join(map(str, face.ravel()))},{usage}")
    (tmp_path / "x.csv").write_text("\n".join(rows))
    data, _ = sources.read(str(tmp_path / "x.csv"))
    same, _ = sources.read(str(folder(tmp_path / "x", files)))
    assert data.digest == same.digest
    assert data.sizes == same.sizes == {f"{side}x{side}": 35}


def test_a_dataset_without_private_images_never_reports_those_that_chose_the_epoch(tmp_path):
    """`test` is public and private together; public may choose."""
    plain = tiny(official=False, splits=("public", "test"))
    files = images(plain, folders={}) | {"README.md": b"x"}
    data, source = sources.read(str(folder(tmp_path / "x", files)))
    last = data.split(tables.final(data.table["split"].unique())).table
    assert len(last) == 7 and last["id"].str.startswith("test/").all()
    assert "left out: 1 in no class folder (README.md)" in source["notes"]
    assert "test images are called private" in data.identity["notes"]
    (tmp_path / "x.csv").write_text(csv_text(plain))
    data, source = sources.read(str(tmp_path / "x.csv"))
    assert data.counts().sum().to_dict() == {"train": 21, "public": 7, "private": 7}
    assert "test images are called private" in data.identity["notes"]


def test_what_lies_in_no_class_folder_is_told(tmp_path, monkeypatch, capsys):
    files = images(DATA) | {name: b"x" for name in ("a/b/c.jpg", "b.md", "c.csv", "d")}
    stage(folder(tmp_path / "x", files), monkeypatch)
    assert "left out: 4 in no class folder (b.md, c.csv, d, ...)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2026-11-26 at 9.41.00\u202fAM.png",  # as macOS writes it
        "\u5199\u771f\u3000\u4e00.png",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467.png",
        "a\u00a0b.png",
        "zwj \u0645\u06cc\u200c\u062e.png",
    ],
)
def test_names_that_people_and_systems_give_are_read(name, tmp_path):
    files = images(DATA) | {f"val/happy/{name}": image(FACE)}
    for make in (folder, lambda _, files: zipped(tmp_path / "x.zip", files)):
        data, _ = sources.read(str(make(tmp_path / "x", files)))
        assert data.split("validation").table["id"].tolist() == [f"validation/happy/{name[:-4]}"]
        data.save(tmp_path / "saved")
        assert equal(Dataset.load(tmp_path / "saved"), data)


def test_relative_paths_start_at_the_main_checkout_and_home_is_expanded(tmp_path, monkeypatch):
    zipped(tmp_path / "main/data/x.zip", images(DATA))
    monkeypatch.setenv("HOME", str(tmp_path / "main/data"))
    assert equal(sources.read("~/x.zip")[0], DATA)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert equal(sources.read("data/x.zip")[0], DATA)
