"""Mistakes that people make with data: each is answered in one line, and nothing is written."""

import gzip
import os
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from ferlab.data.readers import archives, sources
from ferlab.files import UserError
from tests.builders import folder, image, images, tarred, tiny, zipped
from tests.forms import CSV, DATA, FACE, FORMS, PACKERS, TEST_CSV, WITH_IDS, stage

pytestmark = pytest.mark.usefixtures("few_official")


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


def misspelled(label, folder, ending=".png"):
    """Class folders without split folders, as official names allow, one of them misnamed."""
    files = {name.split("/", 1)[1]: content for name, content in images(DATA).items()}
    return {
        name.replace(f"{label}/", f"{folder}/").replace(".png", ending): content
        for name, content in files.items()
    }


def own_folders(t, renamed):
    """train/ and test/ with classes of one's own, some files under another name."""
    names = [
        f"{split}/{label}/{k}.png"
        for split in ("train", "test")
        for label in ("frown", "smile")
        for k in range(2)
    ]
    return folder(t / "x", {renamed.get(name, name): image(FACE) for name in names})


def loop(t):
    path = folder(t / "x", images(DATA))
    for number in range(2):  # two of them would be walked for ever
        (path / f"train/angry/loop{number or ''}").symlink_to(path / "train")
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
        "x.gz: holds neither class folders (train/angry/..., or <class>/...) nor a CSV",
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
    "an encrypted zip": (encrypted, "the member a.csv is an encrypted file"),
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
    "no evaluation images": (
        lambda t: zipped(t / "x.zip", images(tiny(splits=("public",)), folders={})),
        "x.zip: no evaluation images; expected private or test images beside train",
    ),
    "test.csv alone": (
        lambda t: folder(t, {"test.csv": TEST_CSV}) / "test.csv",
        "test.csv, line 1: no column 'emotion'",
    ),
    "no split folder beside others": (
        with_image(image(FACE), "anger/a.png"),
        "anger/a.png: in no split folder; expected for example train/angry/a.png",
    ),
    "one class alone": (
        lambda t: folder(t / "x", {f"anger/{name}.png": image(FACE) for name in "ab"}),
        "x: one class alone (angry); a network tells two or more apart",
    ),
    "a class of one's own that is not in each split": (
        lambda t: own_folders(t, {"test/frown/0.png": "test/frwon/0.png"}),
        "test/frwon/0.png: unknown class folder 'frwon'; did you mean frown?",
    ),
    "a misspelled class of one's own": (
        lambda t: own_folders(t, {"train/frown/0.png": "train/frwon/0.png"}),
        "train/frwon/0.png: unknown class folder 'frwon'; did you mean frown? known: frown, smile; "
        "a class of your own needs images in test, too",
    ),
    "classes of one's own one folder below": (
        lambda t: folder(t / "x", {f"{n}/{k}/1.png": image(FACE) for n in "ab" for k in "xy"}),
        "x: holds folders with images in a and b; expected <class>/<image> or train/<class>/<ima",
    ),
    "images in no folder": (
        lambda t: folder(t / "x", {"a.png": image(FACE)}),
        "x: holds neither class folders (train/angry/..., or <class>/...) nor a CSV",
    ),
    "the same image again and again": (
        lambda t: folder(
            t / "x", {f"{name}/{k}.png": image(FACE) for name in ("smile", "frown") for k in "abcd"}
        ),
        "x: too few different images to cut private ones from train; give more, or make train/<cla",
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
        "test/a.png: in no class folder; expected for example test/happy/a.png",
    ),
    "a misspelled class under official names": (
        lambda t: zipped(t / "x.zip", misspelled("surprise", "suprise")),
        "unknown class folder 'suprise'; did you mean surprise? known: angry, ",
    ),
    "a misspelled class of files with an ending of macOS and Windows": (
        lambda t: zipped(t / "x.zip", misspelled("neutral", "neural", ".jfif")),
        "unknown class folder 'neural'; did you mean neutral?",
    ),
    "images one folder below their class": (
        lambda t: zipped(t / "x.zip", misspelled("happy", "happy/more")),
        ".png: below the class folder 'happy'; expected happy/Training_",
    ),
    "images one folder below their class and split": (
        with_image(image(FACE), "fer/train/happy/more/a.png"),
        "happy/more/a.png: below the class folder 'happy'; expected fer/train/happy/a.png",
    ),
    "telephone pictures in a class that is misspelled": (
        with_image(b"x", "train/rage/a.HEIC"),
        "train/rage/a.HEIC: unknown class folder 'rage'",
    ),
    "the split below the class": (
        lambda t: zipped(t / "x.zip", {"happy/train/a.png": image(FACE)}),
        "happy/train/a.png: in no class folder; expected for example train/happy/a.png",
    ),
    "a packed csv in a zip": (
        lambda t: zipped(t / "x.zip", {"a/fer.csv.gz": gzip.compress(CSV)}),
        "nor a CSV, but a/fer.csv.gz: unpack it, or give it alone",
    ),
    **{
        f"a csv packed by {name}": (
            lambda t, head=head: folder(t, {"x": head + bytes(600)}) / "x",
            f"x: is packed by {name}, which is not read; unpack it",
        )
        for head, name in archives.PACKERS.items()
    },
    "a loop of links": (loop, "train/angry/loop: a link to a folder above it; remove it"),
    "faces of two sizes": (
        changed(9, None, f"1,{' '.join(['1'] * 47 * 47)},Training"),
        "x.csv, line 9: 2209 pixels, expected 2304",
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
        "x: val/sad/a.png: the id 'validation/sad/a' is also that of val/sad/a.jpg; rename or "
        "remove",
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
    "a label in words that name no class": (
        changed(9, None, f"rage,{PIXELS},Training"),
        "x.csv, line 9: label rage, expected 0 to 6 or a name such as happy",
    ),
    "an unknown Usage": (changed(9, None, f"1,{PIXELS},Foo"), "x.csv, line 9: unknown Usage 'Foo'"),
    "a row cut short": (
        changed(9, None, "1,1 2 3"),
        "x.csv, line 9: 2 values, expected 3 (emotion,pixels,usage)",
    ),
    "an endless cell": (
        changed(9, None, "1," + "1 " * 3_000_000 + ",Training"),
        "x.csv, line 9: of more than 4 MiB",
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
    text = str(error.value)
    assert message in text and "\n" not in text and len(text) < 400
    assert list(lab.iterdir()) == []


def test_an_archive_of_too_many_files_is_refused_but_not_the_users_own_folder(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    with pytest.raises(UserError, match="refused, more than 10 files; unpack it and name the fol"):
        sources.read(str(FORMS["zip"](tmp_path)))
    assert len(sources.read(str(FORMS["folder"](tmp_path)))[0].faces) == len(DATA.faces)
