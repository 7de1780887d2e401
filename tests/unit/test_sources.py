"""Every form of the data is read to the same Dataset, and whatever is wrong with it is said in one line."""

import bz2
import gzip
import http.server
import io
import lzma
import os
import re
import stat
import tarfile
import threading
import types
import zipfile
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ferlab import params
from ferlab.data import sample
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import Dataset
from ferlab.data.readers import archives, csv_faces, fetch, sources
from ferlab.data.readers import images as decoding
from ferlab.files import UserError, read_json
from stages import download, experiment
from tests.builders import csv_text, folder, image, images, tarred, tiny, zipped

DATA = tiny()
FACE = DATA.faces[0]
SPLIT_FOLDERS = {"train": "Training", "public": "PublicTest", "private": "private"}
CSV = csv_text(DATA).encode()
ICML = csv_text(DATA, ("emotion", " Usage", " pixels")).encode()
WITH_IDS = csv_text(DATA, ("id", "Usage", "emotion", "pixels")).encode()
TRAIN_CSV = csv_text(DATA.split("train"), ("emotion", "pixels")).encode()
# The competition's way to write a row.
QUOTED = re.sub(rb"([0-9 ]{4000,})", rb'"\1"', CSV).replace(b"\n", b"\r\n")
PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
TEST_CSV = b"pixels\n" + b" ".join([b"7"] * 2304) + b"\n"


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """An empty checkout: its root is the working directory, and no setting of the real machine reaches it."""
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    for name in ("DVC_ROOT", "FER2013", "FERLAB_KAGGLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "lab"


def stage(dataset, monkeypatch):
    """Run the download stage with `dataset` as its parameter."""
    monkeypatch.setattr(
        params,
        "load",
        lambda: types.SimpleNamespace(download=params.Download(dataset=str(dataset))),
    )
    download.main(experiment())


def equal(data, other):
    same = data.table.astype(object).equals(
        other.table.astype(object)
    )  # a loaded table's text has another dtype
    return same and data.digest == other.digest and np.array_equal(data.faces, other.faces)


FORMS = {
    "folder": lambda t: folder(t / "x", images(DATA)),
    "folder below another": lambda t: folder(t / "x", images(DATA, top="fer2013/")),
    "folder per split": lambda t: folder(t / "x", images(DATA, folders=SPLIT_FOLDERS)),
    "class folders, split in the name": lambda t: folder(
        t / "x", {name.split("/", 1)[1]: content for name, content in images(DATA).items()}
    ),
    "zip": lambda t: zipped(t / "x.zip", images(DATA)),
    "zip without its ending": lambda t: zipped(t / "x", images(DATA)),
    "zip from Windows": lambda t: zipped(
        t / "x.zip", {n.replace("/", "\\"): c for n, c in images(DATA).items()}
    ),
    "zip from macOS": lambda t: zipped(
        t / "x.zip",
        images(DATA, top="fer/")
        | {
            "__MACOSX/fer/train/angry/._Training_00000.png": b"x",
            "fer/train/angry/.DS_Store": b"x",
            "fer/train/.DS_Store": b"x",
            "fer/README.md": b"hello",
        },
    ),
    "tar": lambda t: tarred(t / "x.tar", images(DATA), "w"),
    "tar.gz": lambda t: tarred(t / "x.tar.gz", images(DATA, top="./fer2013/")),
    "csv": lambda t: folder(t, {"x.csv": CSV}) / "x.csv",
    "csv with CRLF and a byte order mark": lambda t: (
        folder(t, {"x.csv": b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n")}) / "x.csv"
    ),
    "csv with quoted pixels": lambda t: folder(t, {"x.csv": QUOTED}) / "x.csv",
    "csv with all cells quoted": lambda t: (
        folder(t, {"x.csv": re.sub(rb"([^,\n]+)", rb'"\1"', CSV)}) / "x.csv"
    ),
    "csv with double blanks and tabs": lambda t: (
        folder(t, {"x.csv": CSV.replace(b" 1", b"  1").replace(b" 2", b"\t2")}) / "x.csv"
    ),
    "csv with blank lines and no last line end": lambda t: (
        folder(t, {"x.csv": CSV.replace(b"\n", b"\n\n\r\n")[:-4]}) / "x.csv"
    ),
    "csv with the line ends of an old Mac": lambda t: (
        folder(t, {"x.csv": CSV.replace(b"\n", b"\r")}) / "x.csv"
    ),
    "csv with a note over two lines": lambda t: (
        folder(
            t,
            {
                "x.csv": b"\n".join(
                    line + (b',"a\nb, c"' if number else b",note")
                    for number, line in enumerate(CSV.splitlines())
                )
            },
        )
        / "x.csv"
    ),
    **{
        f"csv.{ending}": lambda t, ending=ending, pack=pack: (
            folder(t, {f"x.csv.{ending}": pack(CSV)}) / f"x.csv.{ending}"
        )
        for ending, pack in PACKERS.items()
    },
    "csv.gz without its ending": lambda t: folder(t, {"x": gzip.compress(ICML)}) / "x",
    "csv without its ending": lambda t: folder(t, {"x": CSV}) / "x",
    "icml csv": lambda t: folder(t, {"icml_face_data.csv": ICML}) / "icml_face_data.csv",
    "csv with ids": lambda t: folder(t, {"x.csv": WITH_IDS}) / "x.csv",
    "csv.zip": lambda t: zipped(t / "fer2013.csv.zip", {"fer2013.csv": CSV}),
    "csv in a tar.gz": lambda t: tarred(
        t / "fer2013.tar.gz", {"fer2013/README": b"hello", "fer2013/fer2013.csv": CSV}
    ),
    "csv without its ending in a zip": lambda t: zipped(
        t / "x.zip", {"a/README": b"hello", "a/data": CSV}
    ),
    "csv in a folder": lambda t: folder(t / "x", {"deep/fer2013.csv": CSV}),
    "the competition's zip": lambda t: zipped(
        t / "x.zip",
        {
            "train.csv": TRAIN_CSV,
            "test.csv": TEST_CSV,
            "icml_face_data.csv": ICML,
            "fer2013.tar.gz": b"\x1f\x8b",
            "example_submission.csv": b"emotion\n0\n",
        },
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dataset(form, tmp_path):
    data, source = sources.read(str(FORMS[form](tmp_path)))
    assert (
        equal(data, DATA)
        and data.name == f"custom-{DATA.digest[:8]}"
        and data.classes == DATA.classes
    )
    assert source["kind"] == "path" and ("csv" in source["form"]) == (
        "csv" in form or "competition" in form
    )


def test_codes_of_a_csv_are_mapped_by_name_not_by_order(tmp_path):
    pixels = " ".join(["9"] * 2304)
    rows = [
        f"{code},{pixels},{usage}" for usage in ("Training", "PrivateTest") for code in (6, 0, 4)
    ]
    (tmp_path / "x.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    data, _ = sources.read(str(tmp_path / "x.csv"))
    assert data.table["label"].tolist() == ["neutral", "angry", "sad"] * 2
    assert data.classes == ("angry", "neutral", "sad")
    assert data.table["id"].tolist()[:4] == [
        "Training_00000",
        "Training_00001",
        "Training_00002",
        "PrivateTest_00003",
    ]


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
    data, _ = sources.read(str(zipped(tmp_path / "x.zip", files)))
    assert data.table.set_index("id").loc[f"{split}/happy/x", "split"] == split


def test_names_without_official_prefix_give_ids_from_split_class_and_name(tmp_path):
    plain = tiny(official=False, splits=("validation", "test"))
    data, _ = sources.read(
        str(folder(tmp_path / "x", images(plain, folders={"validation": "val"})))
    )
    assert equal(data, plain) and set(data.table["split"]) == {"train", "validation", "test"}
    assert data.table["id"].iloc[0] == "train/angry/00000"
    columns = ("id", "emotion", "pixels", "Usage")
    (tmp_path / "x.csv").write_text(csv_text(plain, columns))
    assert equal(sources.read(str(tmp_path / "x.csv"))[0], plain)


def test_the_split_folder_decides_and_the_prefix_only_divides_the_test_set(tmp_path):
    files = images(DATA) | {
        "val/sad/Training_77.png": image(FACE),
        "test/sad/Training_78.png": image(FACE),
    }
    table = sources.read(str(zipped(tmp_path / "x.zip", files)))[0].table.set_index("id")
    assert (
        table.loc["Training_77", "split"] == "validation"
        and table.loc["Training_78", "split"] == "test"
    )
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
    }
    files = images(DATA) | {f"val/happy/{name}": content for name, content in odd.items()}
    data, source = sources.read(str(zipped(tmp_path / "x.zip", files)))
    assert data.sizes == {"24x30": 1, "48x48": len(files) - 2, "96x96": 1}
    faces = data.split("validation").faces.astype(int)
    assert np.abs(faces[:7] - FACE).max() <= 1 and np.abs(faces[7:] - FACE).mean() < 25


def test_relative_paths_start_at_the_main_checkout_and_home_is_expanded(tmp_path, monkeypatch):
    zipped(tmp_path / "main/data/x.zip", images(DATA))
    monkeypatch.setenv("HOME", str(tmp_path / "main/data"))
    assert equal(sources.read("~/x.zip")[0], DATA)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert equal(sources.read("data/x.zip")[0], DATA)


def changed(line, old, new, text=CSV):
    """A CSV with one line altered, as a file x.csv."""
    lines = text.decode().splitlines()
    lines[line - 1] = lines[line - 1].replace(old, new, 1) if old else new
    return lambda t: folder(t, {"x.csv": "\n".join(lines).encode()}) / "x.csv"


def with_image(content, name="train/angry/bad.png"):
    return lambda t: zipped(t / "x.zip", images(DATA) | {name: content})


def without(word):
    return lambda t: zipped(
        t / "x.zip", {name: content for name, content in images(DATA).items() if word not in name}
    )


def cut(make):
    def made(t):
        path = make(t)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 1024 * 512])
        return path

    return made


def empty_class(t):
    path = folder(t / "x", images(DATA))
    (path / "val/fear").mkdir(parents=True)
    (path / "val/fear/.DS_Store").write_bytes(b"x")
    return path


def hostile_zip(name, mode):
    def made(t):
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        return zipped(t / "x.zip", {info: b"/etc/passwd"} | images(DATA))

    return made


def hostile_tar(name, kind):
    def made(t):
        path = tarred(t / "x.tar", images(DATA), "w")
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "train/angry/Training_00000.png"
            archive.addfile(info)
        return path

    return made


def pipe(t):
    path = folder(t / "x", images(DATA))
    os.mkfifo(path / "train/angry/waits.png")
    return path


def encrypted(t):
    path = zipped(t / "x.zip", {"a.csv": CSV})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    return path


def damaged_member(t):
    """A digit of the last row became a letter."""
    path = t / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.csv", CSV)
    content = path.read_bytes()
    at = content.rindex(b",PrivateTest")
    path.write_bytes(content[: at - 1] + b"x" + content[at:])
    return path


def damaged_image(t, before=None):
    path = t / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ((before or {}) | images(DATA)).items():
            archive.writestr(name, content)
    content = path.read_bytes()
    at = content.rindex(b"IDAT") + 8
    path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    return path


def bomb(t):
    files = images(DATA) | {f"train/angry/{number}.png": bytes(1 << 23) for number in range(9)}
    return zipped(t / "x.zip", files)


PIXELS = " ".join(map(str, DATA.faces[0].ravel()))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
BAD = {
    "a path that is not there": (lambda t: t / "none.zip", "none.zip: not found"),
    "an empty file": (lambda t: folder(t, {"x.zip": b""}) / "x.zip", "x.zip: is empty (0 bytes)"),
    "a git-lfs pointer": (
        lambda t: folder(t, {"x.zip": LFS}) / "x.zip",
        "is a git-lfs pointer: run git lfs pull",
    ),
    "a git-lfs pointer in a folder": (
        lambda t: folder(t / "x", {"x.csv": LFS}),
        "x.csv: is a git-lfs pointer: run",
    ),
    "a web page": (
        lambda t: folder(t, {"x.zip": b"\n<!DOCTYPE html><p>"}) / "x.zip",
        "is a web page, not data",
    ),
    "bytes of no kind": (
        lambda t: folder(t, {"x.zip": bytes(range(256))}) / "x.zip",
        "neither a folder, a zip, a tar nor",
    ),
    "a text": (
        lambda t: folder(t, {"x.csv": b"hello\n"}) / "x.csv",
        "x.csv, line 1: no column 'emotion' (found: 'hello')",
    ),
    "a folder of nothing": (
        lambda t: folder(t / "x", {"notes.txt": b"hello"}),
        "holds neither class folders",
    ),
    "a truncated zip": (cut(FORMS["zip"]), "x.zip: truncated or damaged zip"),
    "a truncated tar": (cut(FORMS["tar"]), "x.tar: truncated or damaged tar"),
    "a truncated tar.gz": (cut(FORMS["tar.gz"]), "x.tar.gz: truncated or damaged tar"),
    "a gzip of something else": (
        lambda t: folder(t, {"x": b"\x1f\x8bxx"}) / "x",
        "x: truncated or damaged gz",
    ),
    "a gzip of a text": (
        lambda t: folder(t, {"x.gz": gzip.compress(b"hello")}) / "x.gz",
        "x.gz: holds neither class folders (train/angry/...) nor a CSV",
    ),
    "a bad row in a csv.gz": (
        lambda t: folder(t, {"x.csv.gz": gzip.compress(CSV + b"1,1 2,Training\n")}) / "x.csv.gz",
        "x.csv.gz: x.csv, line 37: 2 pixels, expected 2304",
    ),
    "a bomb of a csv.gz": (
        lambda t: folder(t, {"x.csv.gz": gzip.compress(CSV + bytes(80 << 20))}) / "x.csv.gz",
        "x.csv.gz: refused, it unpacks to more than 64 MiB",
    ),
    **{
        f"a truncated csv.{ending}": (
            lambda t, ending=ending, pack=pack: (
                folder(t, {f"x.csv.{ending}": pack(CSV)[:-20]}) / f"x.csv.{ending}"
            ),
            f"x.csv.{ending}: truncated or damaged {ending}",
        )
        for ending, pack in PACKERS.items()
    },
    "a csv damaged in its zip": (damaged_member, "x.zip: truncated or damaged zip (Bad CRC-32"),
    "an image damaged in its zip": (damaged_image, "x.zip: truncated or damaged zip (Bad CRC-32"),
    "a damaged image before one damaged in its zip": (
        lambda t: damaged_image(t, {"train/angry/bad.png": b"hello"}),
        "bad.png: not an image",
    ),
    "an encrypted zip": (encrypted, "the member a.csv is a encrypted file"),
    "a zip bomb": (bomb, "x.zip: refused, it unpacks to more than 64 MiB"),
    "a zip with ..": (
        hostile_zip("../train/angry/a.png", 0o100644),
        "refused, the member '../train/angry/a.png'",
    ),
    "a zip with an absolute path": (
        hostile_zip("/etc/a.png", 0o100644),
        "refused, the member '/etc/a.png' points",
    ),
    "a zip with a Windows drive": (hostile_zip("C:\\a.png", 0o100644), "points outside"),
    "a zip with a control character": (
        hostile_zip("train/a\nb.png", 0o100644),
        "refused, the member 'train/a\\nb.png'",
    ),
    "a zip with a link": (
        hostile_zip("train/angry/a.png", stat.S_IFLNK | 0o777),
        "a.png is a link or device",
    ),
    "a tar with ..": (
        hostile_tar("train/../../a", tarfile.REGTYPE),
        "refused, the member 'train/../../a'",
    ),
    "a tar with a symbolic link": (
        hostile_tar("train/angry/a.png", tarfile.SYMTYPE),
        "a.png is a link or device",
    ),
    "a tar with a hard link": (
        hostile_tar("train/angry/a.png", tarfile.LNKTYPE),
        "a.png is a link or device",
    ),
    "a tar with a device": (
        hostile_tar("train/angry/a.png", tarfile.CHRTYPE),
        "a.png is a link or device",
    ),
    "a folder with a pipe": (pipe, "train/angry/waits.png is a link or device"),
    "no training images": (without("train"), "x.zip: no training images"),
    "no evaluation images": (without("test"), "x.zip: no evaluation images"),
    "validation images alone": (
        lambda t: zipped(t / "x.zip", images(tiny(splits=("validation",)))),
        "x.zip: no evaluation images; expected private or test images beside train",
    ),
    "a tar bomb": (
        lambda t: tarred(t / "x.tar.gz", {"train/angry/a.png": bytes(80 << 20)}),
        "x.tar.gz: refused, it unpacks to more than",
    ),
    "train.csv alone": (
        lambda t: folder(t, {"train.csv": TRAIN_CSV}) / "train.csv",
        "train.csv: no evaluation images",
    ),
    "test.csv alone": (
        lambda t: folder(t, {"test.csv": TEST_CSV}) / "test.csv",
        "test.csv, line 1: no column 'emotion'",
    ),
    "no split folders": (
        lambda t: folder(t / "x", {"anger/a.png": image(FACE)}),
        "anger/a.png: in no split folder",
    ),
    "a class without training images": (
        without("train/happy"),
        "no training images of the class happy",
    ),
    "an empty class folder": (empty_class, "val/fear: empty class folder"),
    "an unknown class folder": (
        with_image(b"x", "train/rage/a.png"),
        "train/rage/a.png: unknown class folder 'rage'",
    ),
    "an image outside of a class": (
        with_image(b"x", "test/a.png"),
        "test/a.png: unknown class folder 'test'",
    ),
    "the data twice": (
        lambda t: folder(t / "x", images(DATA, top="a/") | images(DATA, top="b/c/")),
        "x: holds class folders in a and b/c; give one of them alone",
    ),
    "two whole CSVs": (
        lambda t: folder(t / "x", {"a.csv": CSV, "b.csv": CSV}),
        "x: holds several CSVs (a.csv, b.csv)",
    ),
    "one image under two endings": (
        lambda t: folder(
            t / "x", images(DATA) | {"val/sad/a.png": image(FACE), "val/sad/a.jpg": image(FACE)}
        ),
        "the id 'val",
    ),
    "a file that is no image": (with_image(b"hello"), "x.zip: train/angry/bad.png: not an image"),
    "an image of 0 bytes": (with_image(b""), "x.zip: train/angry/bad.png: is empty (0 bytes)"),
    "a git-lfs pointer for an image": (
        with_image(LFS),
        "train/angry/bad.png: is a git-lfs pointer",
    ),
    "half an image": (
        with_image(image(FACE, "JPEG", size=(300, 300))[:2000]),
        "train/angry/bad.png: damaged image",
    ),
    "a gigantic image": (
        with_image(image(np.zeros((1, 1), np.uint8), size=(10000, 5001))),
        "10000x5001 pixels, at most",
    ),
    "one pixel too few": (
        changed(17, " ", "", CSV.replace(b" 0 ", b" 1 ")),
        "x.csv, line 17: 2303 pixels, expected 2304",
    ),
    "one pixel too many": (changed(3, " ", " 1 "), "x.csv, line 3: 2305 pixels, expected 2304"),
    "a pixel above 255": (changed(4, " ", " 256 1000 "), "x.csv, line 4: 2306 pixels"),
    "no pixels": (changed(5, None, "0,,Training"), "x.csv, line 5: 0 pixels, expected 2304"),
    "a pixel that is no number": (
        changed(6, None, "0," + "7 x" + " 1" * 2302 + ",Training"),
        "line 6: pixel x, expected",
    ),
    "a pixel of 256": (
        changed(4, None, "0," + "256" + " 1" * 2303 + ",Training"),
        "line 4: pixel 256, expected 0 to 255",
    ),
    "a pixel below 0": (
        changed(4, None, "0," + "-1" + " 1" * 2303 + ",Training"),
        "line 4: pixel -1, expected 0 to 255",
    ),
    "a gigantic pixel": (
        changed(4, None, "0," + "4294967296" + " 1" * 2303 + ",Training"),
        "pixel 4294967296, expected",
    ),
    "a label of 7": (
        changed(9, None, f"7,{PIXELS},Training"),
        "x.csv, line 9: label 7, expected 0 to 6",
    ),
    "a label in words": (
        changed(9, None, f"sad,{PIXELS},Training"),
        "x.csv, line 9: label sad, expected 0 to 6",
    ),
    "an unknown Usage": (changed(9, None, f"1,{PIXELS},Foo"), "x.csv, line 9: unknown Usage 'Foo'"),
    "a row cut short": (
        changed(9, None, "1,1 2 3"),
        "x.csv, line 9: 2 values, expected 3 (emotion,pixels,usage)",
    ),
    "an endless cell": (
        changed(9, None, "1," + "1 " * 100_000 + ",Training"),
        "x.csv, line 9: field larger than",
    ),
    "no pixels column": (
        changed(1, "pixels", "faces"),
        "x.csv, line 1: no column 'pixels' (found: 'emotion, faces, usage')",
    ),
    "a header alone": (
        lambda t: folder(t, {"x.csv": b"emotion,pixels,Usage\n"}) / "x.csv",
        "x.csv: no training images",
    ),
    "an id that is not unique": (
        lambda t: folder(t, {"x.csv": WITH_IDS + WITH_IDS.splitlines()[1] + b"\n"}) / "x.csv",
        "line 37: the id",
    ),
    "a bad row in an archive": (
        lambda t: tarred(t / "x.tgz", {"a/b.csv": CSV + b"1,1 2,Training\n"}),
        "x.tgz: a/b.csv, line 37: 2 pixels, expected 2304",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_writes_nothing(case, tmp_path, lab, monkeypatch):
    make, message = BAD[case]
    with pytest.raises(UserError) as error:
        stage(make(tmp_path), monkeypatch)
    assert (
        message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400
    )
    assert list(lab.iterdir()) == []


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    with pytest.raises(UserError, match="refused, more than 10 files"):
        sources.read(str(FORMS["zip"](tmp_path)))


def rows_of(content, plain, pixels=2304, block=1 << 19):
    """All that `read_plain` or `read_strict` makes of a CSV, or its error's text."""
    columns = csv_faces.columns_of(content)
    with mock.patch.multiple(csv_faces, PIXELS=pixels, BLOCK=block):
        try:
            at, file = csv_faces.places_of(columns, "x"), io.BytesIO(content)
            if not plain:
                parts = [csv_faces.read_strict(file, columns, at, "x")]
            else:
                parts = list(csv_faces.read_plain(file, columns, at, "x"))
        except UserError as error:
            return str(error)
    return [
        [value for part in parts for value in column(part)]
        for column in (
            lambda part: part[0].tolist(),
            *(lambda part, i=i: part[i] for i in range(1, 5)),
        )
    ]


HEADERS = [
    b"emotion,pixels,Usage",
    b"emotion, Usage, pixels",
    b"pixels,emotion",
    b"id,Usage,emotion,pixels",
    b"pixels,note,usage,emotion",
    b"emotion,pixels,usage,note",
]
CELLS = {
    "emotion": [b"0", b"6", b" 3 ", b'"2"'],
    "usage": [b"Training", b"privatetest ", b'"PublicTest"'],
    "id": [b"a", b"", b"\xc3\xa9", b"\xe2"],
    "note": [b"", b"1 2 3 4", b'"q"'],
    "pixels": [b"0 7 25 255", b'"1 2 3 4"', b"99 100 199 200", b"000 01 1 1"],
}
ODD = [
    b"7",
    b"",
    b"1 2 3",
    b"1 2 3 4 5",
    b"1  2 3 4",
    b" 1 2 3 4 ",
    b"1\t2 3 4",
    b"1 2 3 256",
    b"1 2 3 -4",
    b"1 2 3 x",
    b"1 2 3 0004",
    b"1 2 3 \xb2",
    b"1.0 2 3 4",
    b"+1 2 3 4",
    b"1-2 3 4",
    b"1x2 3 4",
    b"1.2 3 4",
    b"1  2 3",
    b" 1 2 3",
    b"1 2 3 ",
    b"1 2 3 1004",
    b"1 2 3 4,",
    b"Nowhere",
    b"'1 2 3 4'",
]
QUOTES = [
    b'"1 2 3 4',
    b'"1 2 3 4 5',
    b'0 1 2 3 4"',
    b'1 2 3 4"',
    b'"1 2 ""3 4"',
    b'"1 2,3 4"',
    b'1"2 3 4 5"',
    b'"1 2 3 4"5',
    b'"1 2\n3 4"',
    b"\r",
    b'""',
    b'"',
]


@st.composite
def csvs(draw, odd=ODD + QUOTES):
    """Small CSVs of four pixels a row; most rows are as they should be, some have an odd cell."""
    header = draw(st.sampled_from(HEADERS))
    lines = [header]
    names = [name.strip().lower().decode() for name in header.split(b",")]
    for _ in range(draw(st.integers(0, 8))):
        cells = [draw(st.sampled_from(CELLS[name])) for name in names]
        if odd and draw(st.integers(0, 4)) == 0:
            cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(odd))
        lines.append(b",".join(cells) if draw(st.integers(0, 9)) else b"")
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    before, after = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), draw(st.sampled_from([b"", end]))
    return before + end.join(lines) + after


def same_or_left(content, block=1 << 19):
    try:
        assert rows_of(content, True, 4, block) == rows_of(content, False, 4), content
    except csv_faces.NotPlain:
        assert b'"' in content or re.search(rb"\r(?!\n)", content)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("odd", ODD + QUOTES)
def test_the_quick_way_takes_no_odd_cell_for_a_plain_one(header, odd):
    row = [CELLS[name.strip().lower().decode()][0] for name in header.split(b",")]
    for column in range(len(row)):
        for end in b"\n", b"\r\n":
            other = row[:column] + [odd] + row[column + 1 :]
            same_or_left(end.join([header, b",".join(row), b",".join(other), b",".join(row), b""]))


@examples(max_examples=300, deadline=None, derandomize=True)
@given(content=csvs(), block=st.sampled_from([1, 30, 200, 1 << 19]))
def test_the_quick_way_reads_what_the_strict_one_reads_or_leaves_it(content, block):
    same_or_left(content, block)


@examples(max_examples=100, deadline=None, derandomize=True)
@given(content=csvs(odd=()))
def test_plain_rows_need_no_csv_module(content):
    with mock.patch.multiple(csv_faces, parse_pixels=None, parse_row=None):
        found = rows_of(content, True, 4)
    assert len(found[0]) == len([line for line in content.splitlines()[1:] if line])


@pytest.mark.parametrize(
    "content", [CSV, ICML, QUOTED, WITH_IDS], ids=["csv", "icml", "quoted", "ids"]
)
def test_published_shapes_go_the_quick_way(content, monkeypatch):
    expected = rows_of(content, False)
    for name in ("parse_row", "parse_pixels", "read_strict"):
        monkeypatch.setattr(csv_faces, name, None)
    assert rows_of(content, True) == expected and len(expected[0]) == 35


@pytest.mark.parametrize("line", [2, 3, 17, 36])
def test_an_error_in_a_later_block_names_its_line(line, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_faces, "BLOCK", 5000)
    lines = CSV.splitlines()
    lines[line - 1] = lines[line - 1].replace(b",T", b" 1,T").replace(b",P", b" 1,P")
    (tmp_path / "x.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=f"x.csv, line {line}: 2305 pixels, expected 2304"):
        sources.read(str(tmp_path / "x.csv"))


def test_the_first_of_two_errors_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_faces, "BLOCK", 30_000)
    lines = CSV.splitlines()
    lines[20], lines[30] = b"9" + lines[20][1:], b"8" + lines[30][1:]
    (tmp_path / "x.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="line 21: label 9"):
        sources.read(str(tmp_path / "x.csv"))


def test_a_csv_is_read_without_holding_it(tmp_path, monkeypatch):
    """What one call asks of the file is a block, and no more blocks than a few wait."""
    asked, parsed, ahead = [], [], []
    parse = csv_faces.parse_block
    monkeypatch.setattr(csv_faces, "BLOCK", 10_000)
    monkeypatch.setattr(csv_faces, "parse_block", lambda *block: parsed.append(1) or parse(*block))

    class File(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            ahead.append(len(asked) - len(parsed))
            return super().read(size)

    assert len(csv_faces.read_csv(lambda: File(CSV), "x")[0]) == 35
    assert set(asked) == {4096, 10_000} and max(ahead) < 20


@pytest.mark.parametrize("quality", [30, 95])
def test_a_plain_gray_jpeg_takes_the_short_cut_to_the_same_pixels(quality):
    for face in DATA.faces[:5]:
        file = io.BytesIO()
        decoding.Image.fromarray(face).save(file, "JPEG", quality=quality)
        short = decoding.small_gray(file.getvalue())
        assert np.array_equal(short, decoding.face(decoding.decode(file.getvalue(), "x")))


def jpeg(mode="L", size=None, **options):
    file = io.BytesIO()
    picture = decoding.Image.fromarray(FACE).convert(mode)
    (picture.resize(size) if size else picture).save(file, "JPEG", **options)
    return file.getvalue()


UPSIDE_DOWN = decoding.Image.Exif()
UPSIDE_DOWN[274] = 3


@pytest.mark.parametrize(
    "content",
    [
        jpeg("RGB"),
        jpeg(size=(48, 47)),
        jpeg(size=(96, 96)),
        jpeg(exif=UPSIDE_DOWN),
        jpeg(progressive=True),
        jpeg()[:-200],
        jpeg()[:100],
        image(FACE),
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xc0\0",
    ],
    ids=[
        "colour",
        "flat",
        "large",
        "turned",
        "progressive",
        "cut",
        "head",
        "PNG",
        "none",
        "start",
        "frame",
    ],
)
def test_any_other_image_takes_the_long_way(content):
    assert decoding.small_gray(content) is None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_members_of_every_zip_are_read(packing, streamed, tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

    file = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in images(DATA).items():
            archive.writestr(zipfile.ZipInfo(name.replace("train", "Train")), content, packing)
    (tmp_path / "x.zip").write_bytes(file.getvalue())
    assert equal(sources.read(str(tmp_path / "x.zip"))[0], DATA)


def test_small_members_need_no_zipfile_and_overlapping_ones_get_it(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", {"a": b"1" * 50, "b": b"22"})
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        first, second = archive.infolist()
        assert archives.small_member(file, first, second.header_offset) == b"1" * 50
        assert archives.small_member(file, first, second.header_offset - 1) is None
        first.CRC += 1
        assert archives.small_member(file, first, second.header_offset) is None
        first.CRC, first.file_size = first.CRC - 1, 49
        assert archives.small_member(file, first, second.header_offset) is None
        second.orig_filename = "c"
        assert archives.small_member(file, second, archive.start_dir) is None


@pytest.fixture
def small_fer2013(monkeypatch):
    """Let the tiny dataset stand for the published one."""
    counts = {split: tuple(DATA.counts()[split]) for split in ("train", "public", "private")}
    monkeypatch.setattr(sources, "FER2013_COUNTS", counts)
    monkeypatch.setattr(sources, "NAMES", {DATA.digest: "fer2013"})


def test_fer2013_is_known_by_its_content_in_any_container(small_fer2013, tmp_path):
    for form, make in FORMS.items():
        (tmp_path / form).mkdir()
        assert sources.read(str(make(tmp_path / form)))[0].name == "fer2013", form


def test_the_official_pixels_are_one_dataset_in_whatever_order_they_come(
    small_fer2013, tmp_path, monkeypatch
):
    """Rows shuffled, ids of another kind: the same rows, ids and order, since each face is known."""
    from ferlab.data.identity import fingerprints

    rows = DATA.where(np.argsort([int(name.rpartition("_")[2]) for name in DATA.table["id"]]))
    known = fingerprints.restored(
        fingerprints.make(rows.faces, rows.table["label"], rows.table["split"])
    )
    monkeypatch.setattr(fingerprints, "read", lambda: known)
    random = np.random.default_rng(0).permutation(len(DATA.faces))
    lines = CSV.decode().splitlines()
    shuffled = "\n".join([lines[0], *(lines[1 + row] for row in random)])
    (tmp_path / "x.csv").write_text(shuffled)
    renamed = {
        f"{n.rpartition('/')[0]}/im{i}.png": c
        for i, (n, c) in enumerate(images(DATA, folders={}).items())
    }
    whole = [
        sources.read(str(path))[0]
        for path in (
            tmp_path / "x.csv",
            FORMS["icml csv"](tmp_path / "y"),
            zipped(tmp_path / "z.zip", renamed),
        )
    ]
    for data in whole:
        assert equal(data, whole[0]) and data.table["official"].tolist() == [
            int(name.rpartition("_")[2]) for name in data.table["id"]
        ]
    assert (
        whole[0].identity["changes"] == {"exact": len(DATA.faces)}
        and not whole[0].identity["missing"]
    )
    assert whole[0].table["id"].tolist() == DATA.table["id"].tolist()


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


def test_fer2013_is_taken_from_the_variable_in_any_form(small_fer2013, tmp_path, monkeypatch, lab):
    tables = []
    for form in ("zip", "csv"):
        monkeypatch.setenv("FER2013", str(FORMS[form](tmp_path / form)))
        stage("fer2013", monkeypatch)
        tables.append(
            (lab / "data/raw/faces.npy").read_bytes() + (lab / "data/raw/table.csv").read_bytes()
        )
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


@pytest.fixture
def server(monkeypatch):
    """A server that answers each request with the next of `answers` (the last one for ever): functions of a handler."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.paths.append(self.path)
            site.ranges.append((self.headers["Range"], self.headers["If-Range"]))
            (site.answers.pop(0) if len(site.answers) > 1 else site.answers[0])(self)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(fetch, "PIECE", 500)
    monkeypatch.setattr(fetch, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads, listening.block_on_close = True, False
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        site = types.SimpleNamespace(
            url=f"http://127.0.0.1:{listening.server_port}",
            paths=[],
            answers=[],
            ranges=[],
            stop=threading.Event(),
        )
        yield site
        site.stop.set()
        listening.shutdown()


def send(content, code=200, length=None, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def zip_bytes(data=DATA, files=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (files or images(data)).items():
            archive.writestr(name, content)
    return file.getvalue()


ZIP = zip_bytes()
CSV_ZIP = zip_bytes(files={"fer2013.csv": CSV})
BROKEN = send(ZIP[:5000], length=len(ZIP))
FIX = "; download it by hand and set FER2013=<file>"


def test_fer2013_comes_from_kaggle_once_and_is_kept_under_the_main_checkout(
    server, small_fer2013, monkeypatch, lab, capsys
):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [send(b"", 302, Location="/storage/archive.zip?signed=1"), send(CSV_ZIP)]
    for _ in range(2):
        stage("fer2013", monkeypatch)
    assert server.paths == [
        "/api/v1/datasets/download/deadskull7/fer2013",
        "/storage/archive.zip?signed=1",
    ]
    assert (
        equal(Dataset.load(lab / "data/raw"), DATA)
        and Dataset.load(lab / "data/raw").name == "fer2013"
    )
    assert len(list((lab / ".ferlab/downloads").iterdir())) == 1
    assert read_json(lab / "data/source.json")["url"].endswith("/deadskull7/fer2013")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("downloading http://127.0.0.1")
    assert (
        lines[1] == f"fer2013: 35 images (train 21, public 7, private 7), digest {DATA.digest[:12]}"
    )


def test_a_broken_transfer_is_repeated(server, small_fer2013, monkeypatch):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [BROKEN, send(b"", 503), send(ZIP)]
    assert equal(sources.read("fer2013")[0], DATA) and len(server.paths) == 3


@pytest.mark.parametrize(
    "answer, message, requests",
    [
        (BROKEN, "the transfer broke off", 3),
        (send(b"", 404), "the server answers 404 Not Found", 2),
        (send(b"", 403), "the server answers 403 Forbidden", 2),
        (send(b"", 500), "the server answers 500 Internal Server Error", 6),
        (send(b"<!DOCTYPE html><title>Sign in</title>"), "is a web page, not data", 2),
        (send(ZIP[:5000]), "truncated or damaged zip", 2),
        (send(zip_bytes(tiny(train=2))), "not FER2013: train/angry has 2 images, FER2013 3", 2),
        (
            send(b"", 302, Location="http://example.invalid/x.zip"),
            "http://example.invalid/x.zip: only https",
            2,
        ),
        (send(b"", length=5 << 30), "larger than 4 GiB", 2),
        (None, "the server is too slow", 3),
    ],
)
def test_a_failed_download_says_why_and_what_to_do_and_keeps_nothing(
    answer, message, requests, server, small_fer2013, monkeypatch, lab
):
    def silent(handler):
        send(ZIP[:3000], length=len(ZIP))(handler)
        server.stop.wait(5)

    monkeypatch.setattr(fetch, "TIMEOUT", (1, 0.2))
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [answer or silent]
    with pytest.raises(UserError) as error:
        stage("fer2013", monkeypatch)
    assert (
        message in str(error.value)
        and str(error.value).endswith(FIX)
        and "\n" not in str(error.value)
    )
    assert len(server.paths) == requests
    assert [path for path in lab.rglob("*") if path.is_file()] == []


def offers(content, tag='"1"', cut=None, **headers):
    """A file with ranges as RFC 9110 has them; each answer breaks off after `cut` bytes."""

    def answer(handler):
        wanted = handler.headers["Range"] if handler.headers["If-Range"] == tag else None
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if wanted and start >= len(content):
            return send(b"", 416)(handler)
        more = {"ETag": tag} | headers
        if wanted:
            more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return send(
            content[start : start + cut if cut else None],
            206 if wanted else 200,
            len(content) - start,
            **more,
        )(handler)

    return answer


def kept(lab):
    return sorted(path.name.partition(".")[2] for path in (lab / ".ferlab/downloads").iterdir())


def test_a_broken_transfer_goes_on_where_it_stopped(server, small_fer2013, monkeypatch, lab):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [
        offers(ZIP, cut=3000),
        send(b"", 302, Location="/storage"),
        offers(ZIP, cut=2000),
        offers(ZIP),
    ]
    assert equal(sources.read("fer2013")[0], DATA)
    assert server.ranges == [(None, None), *[("bytes=3000-", '"1"')] * 2, ("bytes=5000-", '"1"')]
    assert kept(lab) == [""]


def test_a_later_process_goes_on_too(server, lab):
    server.answers = [offers(ZIP, cut=1000)]
    for expected in (3000, 6000):
        with pytest.raises(UserError, match="the transfer broke off"):
            sources.read(f"{server.url}/a.zip")
        assert kept(lab) == ["part", "part.json"]
        (part,) = (lab / ".ferlab/downloads").glob("*.part")
        assert part.read_bytes() == ZIP[:expected]
    server.answers = [offers(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[-1] == ("bytes=6000-", '"1"') and kept(lab) == [""]


def test_a_rest_that_ends_early_is_not_the_rest(server, lab):
    headers = {"Content-Range": f"bytes 3000-{len(ZIP) - 1}/{len(ZIP)}", "ETag": '"1"'}
    server.answers = [offers(ZIP, cut=3000), send(ZIP[3000:-500], 206, **headers), offers(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[2] == (f"bytes={len(ZIP) - 500}-", '"1"')


DATED = {"Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT"}


def span_of(first, last, total, tag='"1"'):
    headers = {"Content-Range": f"bytes {first}-{last}/{total}", "ETag": tag}
    return send(ZIP[first : last + 1], 206, **headers)


@pytest.mark.parametrize(
    "second",
    [
        offers(ZIP, '"2"'),
        send(ZIP),
        send(b"", 416),
        span_of(3000, len(ZIP) - 1, len(ZIP), '"2"'),
        span_of(2999, len(ZIP) - 1, len(ZIP)),
        span_of(3000, len(ZIP) - 2, len(ZIP)),
        span_of(3000, 3999, "*"),
        send(ZIP[3000:], 206),
    ],
    ids=[
        "changed",
        "whole",
        "no such range",
        "another's rest",
        "other rest",
        "not to the end",
        "no total",
        "no span",
    ],
)
def test_what_is_not_the_rest_of_the_same_file_starts_over(second, server, lab):
    server.answers = [offers(bytes(3000) + ZIP[3000:], cut=3000), second, offers(ZIP, '"3"')]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[1] == ("bytes=3000-", '"1"') and kept(lab) == [""]
    assert len(server.paths) == 2 or server.ranges[2] == (None, None)


@pytest.mark.parametrize(
    "tag, headers, asks",
    [
        ("", {}, None),
        ('W/"1"', {}, None),
        ("", DATED, DATED["Last-Modified"]),
        ('W/"1"', DATED, DATED["Last-Modified"]),
    ],
)
def test_only_a_version_that_is_known_again_is_gone_on_with(tag, headers, asks, server):
    server.answers = [offers(ZIP, tag, 3000, **headers), send(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[1] == (asks and "bytes=3000-", asks)


@pytest.mark.parametrize(
    "damage",
    [
        lambda part, note: note.unlink(),
        lambda part, note: note.write_text("[]"),
        lambda part, note: note.write_text("x"),
        lambda part, note: part.write_bytes(b""),
        lambda part, note: note.write_text('{"version": "a\\nb"}'),
        lambda part, note: part.unlink(),
    ],
)
def test_a_damaged_rest_is_not_gone_on_with(damage, server, lab):
    server.answers = [offers(ZIP, cut=1000)]
    with pytest.raises(UserError, match="the transfer broke off"):
        sources.read(f"{server.url}/a.zip")
    (note,) = (lab / ".ferlab/downloads").glob("*.json")
    damage(note.with_suffix(""), note)
    server.answers = [offers(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA) and server.ranges[-1] == (None, None)


def test_more_than_was_promised_is_not_taken(server, lab, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 5000)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(ZIP[:6000])

    server.answers = [endless]
    with pytest.raises(UserError, match="larger than 0 GiB"):
        sources.read(f"{server.url}/a.zip")
    assert kept(lab) == []


def test_two_downloads_of_one_file_share_it(server, lab):
    def slow(handler):
        server.stop.wait(0.3)
        offers(ZIP)(handler)

    def load():
        found.append(fetch.download(f"{server.url}/a.zip"))

    server.answers, found = [slow], []
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.paths) == 1 and found[0] == found[1] and found[0].read_bytes() == ZIP


@pytest.mark.parametrize(
    "first, said",
    [
        (send(b"", 404), "the server answers 404 Not Found"),
        (send(b"<html>"), "is a web page"),
        (send(zip_bytes(tiny(train=2))), "not FER2013: train/angry"),
    ],
)
def test_the_other_copy_is_fetched_where_the_first_is_none(
    first, said, server, small_fer2013, monkeypatch, lab, capsys
):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [first, send(ZIP)]
    data, source = sources.read("fer2013")
    assert equal(data, DATA) and source["url"] == server.url + sources.KAGGLE[1]
    assert [path.split("/")[5] for path in server.paths] == ["deadskull7", "msambare"]
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith("downloading ")]
    assert len(lines) == 1 and said in lines[0] and lines[0].endswith(f"; trying {source['url']}")
    assert kept(lab) == [""]


def test_where_both_copies_fail_both_reasons_are_told(server, small_fer2013, monkeypatch):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [send(b"", 404), send(b"<html>")]
    with pytest.raises(UserError) as error:
        sources.read("fer2013")
    first, second = (server.url + path for path in sources.KAGGLE)
    assert str(error.value) == (
        f"{first}: the server answers 404 Not Found; {second}: is a web page, not data{FIX}"
    )


def test_no_connection_is_said(monkeypatch, server, small_fer2013):
    monkeypatch.setenv("FERLAB_KAGGLE", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match="no connection; download it by hand and set FER2013=<file>"
    ):
        sources.read("fer2013")


def test_an_address_is_read_like_a_path_and_kept_by_address(server):
    server.answers = [send(ZIP), send(zip_bytes(tiny(seed=1)))]
    (first, source), (second, _) = (
        sources.read(f"{server.url}/a.zip"),
        sources.read(f"{server.url}/b.zip"),
    )
    assert (
        first.name == f"custom-{DATA.digest[:8]}"
        and not equal(first, second)
        and source["url"].endswith("/a.zip")
    )
    assert equal(sources.read(f"{server.url}/a.zip")[0], first) and len(server.paths) == 2


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/x.zip",
        "ftp://127.0.0.1/x.zip",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/x",
        "https://[x/y",
    ],
)
def test_only_https_addresses_are_read(address):
    with pytest.raises(UserError, match="only https addresses|Invalid IPv6|IPv6"):
        sources.read(address)


def test_the_sample_is_one_of_the_sources(monkeypatch):
    monkeypatch.setattr(sample, "draw", lambda: DATA)
    assert sources.read("sample") == (DATA, {"kind": "sample"})


REAL = os.environ.get("FER2013", "")
CK48 = os.environ.get("CK48", "")
FOLDERS = os.environ.get("FER2013_FOLDERS", "")


@pytest.mark.skipif(not CK48, reason="needs CK+: set CK48 to its zip")
def test_ck48_has_no_splits_and_is_refused_as_a_dataset():
    with pytest.raises(UserError, match="in no split folder"):
        sources.read(CK48)


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs the real images: set FER2013 to their zip")
def test_the_real_fer2013_is_known_in_another_order_too(tmp_path, monkeypatch):
    monkeypatch.setenv("FER2013", REAL)
    data, _ = sources.read("fer2013")
    assert (
        data.name == "fer2013"
        and sources.NAMES[data.digest] == "fer2013"
        and not sources.difference(data)
    )
    assert data.counts().sum().to_dict() == {"train": 28709, "public": 3589, "private": 3589}
    assert data.table["id"].is_unique and data.classes == CLASSES
    assert sorted(data.table["official"]) == list(range(35887))
    random = np.random.default_rng(0).permutation(len(data.faces))
    (tmp_path / "x.csv").write_text(
        csv_text(data.where(random), ("emotion", " Usage", " pixels")).replace("\n", "\r\n")
    )
    assert equal(sources.read(str(tmp_path / "x.csv"))[0], data)


@pytest.mark.slow
@pytest.mark.skipif(
    not FOLDERS, reason="needs Kaggle's class folders: set FER2013_FOLDERS to their zip"
)
def test_the_real_class_folders_are_known_for_what_they_are(monkeypatch):
    monkeypatch.setenv("FER2013", FOLDERS)
    data, _ = sources.read("fer2013")
    assert data.name == "fer2013-jpeg" and not sources.difference(data)
    assert data.identity["known"] == 35_887 and data.identity["changes"] == {
        "exact": 12,
        "lossy": 35_875,
    }
    assert not any(
        data.identity[name] for name in ("missing", "foreign", "repeated", "moved", "relabelled")
    )
