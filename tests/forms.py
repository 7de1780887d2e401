"""One tiny dataset in every form in which people keep it, for the tests of what reads it."""

import bz2
import gzip
import lzma
import re
import types

import numpy as np

from ferlab import params
from stages import download, experiment
from tests.builders import csv_text, folder, images, tarred, tiny, zipped

DATA = tiny()
FACE = DATA.faces[0]
CSV = csv_text(DATA).encode()
ICML = csv_text(DATA, ("emotion", " Usage", " pixels")).encode()
WITH_IDS = csv_text(DATA, ("id", "Usage", "emotion", "pixels")).encode()
TRAIN_CSV = csv_text(DATA.split("train"), ("emotion", "pixels")).encode()
# The competition's way to write a row.
QUOTED = re.sub(rb"([0-9 ]{4000,})", rb'"\1"', CSV).replace(b"\n", b"\r\n")
TEST_CSV = b"pixels\n" + b" ".join([b"7"] * 2304) + b"\n"
PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
SPLIT_FOLDERS = {"train": "Training", "public": "PublicTest", "private": "private"}


def stage(dataset, monkeypatch):
    """Run the download stage with `dataset` as its parameter."""
    monkeypatch.setattr(
        params,
        "load",
        lambda: types.SimpleNamespace(download=params.Download(dataset=str(dataset))),
    )
    download.main(experiment())


def equal(data, other):
    """Whether two Datasets have the same faces and rows; `official` depends on what is known."""
    tables = [each.table.drop(columns="official").astype(object) for each in (data, other)]
    return tables[0].equals(tables[1]) and np.array_equal(data.faces, other.faces)


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
