"""Every form of the data is read to the same Dataset, and whatever is wrong with it is said in one line."""

import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
import types
import zipfile

import numpy as np
import pytest

from ferlab import archives, params, sample, sources
from ferlab.classes import CLASSES
from ferlab.dataset import Dataset
from ferlab.files import UserError, read_json
from stages import download, place
from tests.builders import csv_text, folder, image, images, tarred, tiny, zipped

DATA = tiny()
FACE = DATA.faces[0]
SPLIT_FOLDERS = {"train": "Training", "public": "PublicTest", "private": "private"}
CSV = csv_text(DATA).encode()
ICML = csv_text(DATA, ("emotion", " Usage", " pixels")).encode()
WITH_IDS = csv_text(DATA, ("id", "Usage", "emotion", "pixels")).encode()
TRAIN_CSV = csv_text(DATA.split("train"), ("emotion", "pixels")).encode()
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
    monkeypatch.setattr(params, "load", lambda: types.SimpleNamespace(download=params.Download(dataset=str(dataset))))
    download.main(place([]))


def equal(data, other):
    same = data.table.astype(object).equals(other.table.astype(object))  # a loaded table's text has another dtype
    return same and data.digest == other.digest and np.array_equal(data.faces, other.faces)


FORMS = {
    "folder": lambda t: folder(t / "x", images(DATA)),
    "folder below another": lambda t: folder(t / "x", images(DATA, top="fer2013/")),
    "folder per split": lambda t: folder(t / "x", images(DATA, folders=SPLIT_FOLDERS)),
    "class folders, split in the name": lambda t: folder(t / "x", {
        name.split("/", 1)[1]: content for name, content in images(DATA).items()}),
    "zip": lambda t: zipped(t / "x.zip", images(DATA)),
    "zip without its ending": lambda t: zipped(t / "x", images(DATA)),
    "zip from Windows": lambda t: zipped(t / "x.zip", {n.replace("/", "\\"): c for n, c in images(DATA).items()}),
    "zip from macOS": lambda t: zipped(t / "x.zip", images(DATA, top="fer/") | {
        "__MACOSX/fer/train/angry/._Training_00000.png": b"x", "fer/train/angry/.DS_Store": b"x",
        "fer/train/.DS_Store": b"x", "fer/README.md": b"hello"}),
    "tar": lambda t: tarred(t / "x.tar", images(DATA), "w"),
    "tar.gz": lambda t: tarred(t / "x.tar.gz", images(DATA, top="./fer2013/")),
    "csv": lambda t: folder(t, {"x.csv": CSV}) / "x.csv",
    "csv with CRLF and a byte order mark":
        lambda t: folder(t, {"x.csv": b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n")}) / "x.csv",
    "csv without its ending": lambda t: folder(t, {"x": CSV}) / "x",
    "icml csv": lambda t: folder(t, {"icml_face_data.csv": ICML}) / "icml_face_data.csv",
    "csv with ids": lambda t: folder(t, {"x.csv": WITH_IDS}) / "x.csv",
    "csv.zip": lambda t: zipped(t / "fer2013.csv.zip", {"fer2013.csv": CSV}),
    "csv in a tar.gz": lambda t: tarred(t / "fer2013.tar.gz", {"fer2013/README": b"hello", "fer2013/fer2013.csv": CSV}),
    "csv without its ending in a zip": lambda t: zipped(t / "x.zip", {"a/README": b"hello", "a/data": CSV}),
    "csv in a folder": lambda t: folder(t / "x", {"deep/fer2013.csv": CSV}),
    "the competition's zip": lambda t: zipped(t / "x.zip", {
        "train.csv": TRAIN_CSV, "test.csv": TEST_CSV, "icml_face_data.csv": ICML, "fer2013.tar.gz": b"\x1f\x8b",
        "example_submission.csv": b"emotion\n0\n"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dataset(form, tmp_path):
    data, source = sources.read(str(FORMS[form](tmp_path)))
    assert equal(data, DATA) and data.name == f"custom-{DATA.digest[:8]}" and data.classes == DATA.classes
    assert source["kind"] == "path" and ("csv" in source["form"]) == ("csv" in form or "competition" in form)


def test_codes_of_a_csv_are_mapped_by_name_not_by_order(tmp_path):
    pixels = " ".join(["9"] * 2304)
    rows = [f"{code},{pixels},{usage}" for usage in ("Training", "PrivateTest") for code in (6, 0, 4)]
    (tmp_path / "x.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    data, _ = sources.read(str(tmp_path / "x.csv"))
    assert data.table["label"].tolist() == ["neutral", "angry", "sad"] * 2
    assert data.classes == ("angry", "neutral", "sad")
    assert data.table["id"].tolist()[:4] == ["Training_00000", "Training_00001", "Training_00002", "PrivateTest_00003"]


@pytest.mark.parametrize("spelling", [
    {"angry": "Anger", "disgust": "DISGUSTED", "fear": "fearful", "happy": "Happiness", "neutral": "contentless",
     "sad": "Sadness", "surprise": "surprised"},
    {"angry": "ANGRY", "fear": "Scared", "neutral": "neutrality"}, {"fear": "afraid"}])
def test_spellings_of_class_folders_are_known(spelling, tmp_path):
    files = images(DATA, spell=lambda name: spelling.get(name, name))
    assert equal(sources.read(str(zipped(tmp_path / "x.zip", files)))[0], DATA)


@pytest.mark.parametrize("written, split", [
    ("training", "train"), ("Train", "train"), ("val", "validation"), ("valid", "validation"), ("TESTING", "test"),
    ("PublicTest", "public"), ("privatetest", "private"), ("private", "private")])
def test_spellings_of_split_folders_are_known(written, split, tmp_path):
    files = images(tiny(official=False, splits=())) | {f"{written}/happy/x.png": image(FACE)}
    files |= {"test/happy/y.png": image(FACE)}
    data, _ = sources.read(str(zipped(tmp_path / "x.zip", files)))
    assert data.table.set_index("id").loc[f"{split}/happy/x", "split"] == split


def test_names_without_official_prefix_give_ids_from_split_class_and_name(tmp_path):
    plain = tiny(official=False, splits=("validation", "test"))
    data, _ = sources.read(str(folder(tmp_path / "x", images(plain, folders={"validation": "val"}))))
    assert equal(data, plain) and set(data.table["split"]) == {"train", "validation", "test"}
    assert data.table["id"].iloc[0] == "train/angry/00000"
    columns = ("id", "emotion", "pixels", "Usage")
    (tmp_path / "x.csv").write_text(csv_text(plain, columns))
    assert equal(sources.read(str(tmp_path / "x.csv"))[0], plain)


def test_the_split_folder_decides_and_the_prefix_only_divides_the_test_set(tmp_path):
    files = images(DATA) | {"val/sad/Training_77.png": image(FACE), "test/sad/Training_78.png": image(FACE)}
    table = sources.read(str(zipped(tmp_path / "x.zip", files)))[0].table.set_index("id")
    assert table.loc["Training_77", "split"] == "validation" and table.loc["Training_78", "split"] == "test"
    assert (table["split"] == "public").sum() == (table["split"] == "private").sum() == 7


def test_one_official_name_in_two_class_folders_keeps_both_images(tmp_path):
    files = images(DATA) | {f"train/{name}/Training_5.png": image(FACE) for name in ("sad", "fear")}
    ids = set(sources.read(str(zipped(tmp_path / "x.zip", files)))[0].table["id"])
    assert {"train/sad/Training_5", "train/fear/Training_5"} < ids and len(ids) == len(files)


def test_images_of_any_mode_and_size_become_gray_48(tmp_path):
    odd = {"a.png": image(FACE, mode="RGBA"), "b.bmp": image(FACE, "BMP", "RGB"), "c.gif": image(FACE, "GIF"),
           "d.png": image(FACE, mode="P"), "e.tif": image(FACE, "TIFF"), "f.webp": image(FACE, "PPM"),
           "g.png": image(FACE.astype(np.uint16) * 257, mode="I;16"), "h.png": image(FACE, size=(96, 96)),
           "i.jpg": image(FACE, "JPEG", "RGB", (24, 30))}
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


# What is wrong is said in one line.

def changed(line, old, new, text=CSV):
    """A CSV with one line altered, as a file x.csv."""
    lines = text.decode().splitlines()
    lines[line - 1] = lines[line - 1].replace(old, new, 1) if old else new
    return lambda t: folder(t, {"x.csv": "\n".join(lines).encode()}) / "x.csv"


def with_image(content, name="train/angry/bad.png"):
    return lambda t: zipped(t / "x.zip", images(DATA) | {name: content})


def without(word):
    return lambda t: zipped(t / "x.zip", {name: content for name, content in images(DATA).items() if word not in name})


def cut(make):
    def made(t):
        path = make(t)
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 1024 * 512])
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


def bomb(t):
    files = images(DATA) | {f"train/angry/{number}.png": bytes(1 << 23) for number in range(9)}
    return zipped(t / "x.zip", files)


PIXELS = " ".join(map(str, DATA.faces[0].ravel()))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
BAD = {
    "a path that is not there": (lambda t: t / "none.zip", "none.zip: not found"),
    "an empty file": (lambda t: folder(t, {"x.zip": b""}) / "x.zip", "x.zip: is empty (0 bytes)"),
    "a git-lfs pointer": (lambda t: folder(t, {"x.zip": LFS}) / "x.zip", "is a git-lfs pointer: run git lfs pull"),
    "a git-lfs pointer in a folder": (lambda t: folder(t / "x", {"x.csv": LFS}), "x.csv: is a git-lfs pointer: run"),
    "a web page": (lambda t: folder(t, {"x.zip": b"\n<!DOCTYPE html><p>"}) / "x.zip", "is a web page, not data"),
    "bytes of no kind": (
        lambda t: folder(t, {"x.zip": bytes(range(256))}) / "x.zip", "neither a folder, a zip, a tar nor"),
    "a text": (
        lambda t: folder(t, {"x.csv": b"hello\n"}) / "x.csv", "x.csv, line 1: no column 'emotion' (found: 'hello')"),
    "a folder of nothing": (lambda t: folder(t / "x", {"notes.txt": b"hello"}), "holds neither class folders"),
    "a truncated zip": (cut(FORMS["zip"]), "x.zip: truncated or damaged zip"),
    "a truncated tar": (cut(FORMS["tar"]), "x.tar: truncated or damaged tar"),
    "a truncated tar.gz": (cut(FORMS["tar.gz"]), "x.tar.gz: truncated or damaged tar"),
    "a gzip of something else": (lambda t: folder(t, {"x": b"\x1f\x8bxx"}) / "x", "x: truncated or damaged tar"),
    "an encrypted zip": (encrypted, "the member a.csv is a encrypted file"),
    "a zip bomb": (bomb, "x.zip: refused, it unpacks to more than 64 MiB"),
    "a zip with ..": (hostile_zip("../train/angry/a.png", 0o100644), "refused, the member '../train/angry/a.png'"),
    "a zip with an absolute path": (hostile_zip("/etc/a.png", 0o100644), "refused, the member '/etc/a.png' points"),
    "a zip with a Windows drive": (hostile_zip("C:\\a.png", 0o100644), "points outside"),
    "a zip with a control character": (
        hostile_zip("train/a\nb.png", 0o100644), "refused, the member 'train/a\\nb.png'"),
    "a zip with a link": (hostile_zip("train/angry/a.png", stat.S_IFLNK | 0o777), "a.png is a link or device"),
    "a tar with ..": (hostile_tar("train/../../a", tarfile.REGTYPE), "refused, the member 'train/../../a'"),
    "a tar with a symbolic link": (hostile_tar("train/angry/a.png", tarfile.SYMTYPE), "a.png is a link or device"),
    "a tar with a hard link": (hostile_tar("train/angry/a.png", tarfile.LNKTYPE), "a.png is a link or device"),
    "a tar with a device": (hostile_tar("train/angry/a.png", tarfile.CHRTYPE), "a.png is a link or device"),
    "a folder with a pipe": (pipe, "train/angry/waits.png is a link or device"),
    "no training images": (without("train"), "x.zip: no training images"),
    "no evaluation images": (without("test"), "x.zip: no evaluation images"),
    "validation images alone": (lambda t: zipped(t / "x.zip", images(tiny(splits=("validation",)))),
                                "x.zip: no evaluation images; expected private or test images beside train"),
    "a tar bomb": (lambda t: tarred(t / "x.tar.gz", {"train/angry/a.png": bytes(80 << 20)}),
                   "x.tar.gz: refused, it unpacks to more than"),
    "train.csv alone": (lambda t: folder(t, {"train.csv": TRAIN_CSV}) / "train.csv", "train.csv: no evaluation images"),
    "test.csv alone": (
        lambda t: folder(t, {"test.csv": TEST_CSV}) / "test.csv", "test.csv, line 1: no column 'emotion'"),
    "no split folders": (lambda t: folder(t / "x", {"anger/a.png": image(FACE)}), "anger/a.png: in no split folder"),
    "a class without training images": (without("train/happy"), "no training images of the class happy"),
    "an empty class folder": (empty_class, "val/fear: empty class folder"),
    "an unknown class folder": (with_image(b"x", "train/rage/a.png"), "train/rage/a.png: unknown class folder 'rage'"),
    "an image outside of a class": (with_image(b"x", "test/a.png"), "test/a.png: unknown class folder 'test'"),
    "the data twice": (lambda t: folder(t / "x", images(DATA, top="a/") | images(DATA, top="b/c/")),
                       "x: holds class folders in a and b/c; give one of them alone"),
    "two whole CSVs": (lambda t: folder(t / "x", {"a.csv": CSV, "b.csv": CSV}), "x: holds several CSVs (a.csv, b.csv)"),
    "one image under two endings": (lambda t: folder(t / "x", images(DATA) | {
        "val/sad/a.png": image(FACE), "val/sad/a.jpg": image(FACE)}), "the id 'val"),
    "a file that is no image": (with_image(b"hello"), "x.zip: train/angry/bad.png: not an image"),
    "an image of 0 bytes": (with_image(b""), "x.zip: train/angry/bad.png: is empty (0 bytes)"),
    "a git-lfs pointer for an image": (with_image(LFS), "train/angry/bad.png: is a git-lfs pointer"),
    "half an image": (with_image(image(FACE, "JPEG", size=(300, 300))[:2000]), "train/angry/bad.png: damaged image"),
    "a gigantic image": (
        with_image(image(np.zeros((1, 1), np.uint8), size=(10000, 5001))), "10000x5001 pixels, at most"),
    "one pixel too few": (
        changed(17, " ", "", CSV.replace(b" 0 ", b" 1 ")), "x.csv, line 17: 2303 pixels, expected 2304"),
    "one pixel too many": (changed(3, " ", " 1 "), "x.csv, line 3: 2305 pixels, expected 2304"),
    "a pixel above 255": (changed(4, " ", " 256 1000 "), "x.csv, line 4: 2306 pixels"),
    "no pixels": (changed(5, None, "0,,Training"), "x.csv, line 5: 0 pixels, expected 2304"),
    "a pixel that is no number": (
        changed(6, None, "0," + "7 x" + " 1" * 2302 + ",Training"), "line 6: pixel x, expected"),
    "a pixel of 256": (
        changed(4, None, "0," + "256" + " 1" * 2303 + ",Training"), "line 4: pixel 256, expected 0 to 255"),
    "a pixel below 0": (
        changed(4, None, "0," + "-1" + " 1" * 2303 + ",Training"), "line 4: pixel -1, expected 0 to 255"),
    "a gigantic pixel": (
        changed(4, None, "0," + "4294967296" + " 1" * 2303 + ",Training"), "pixel 4294967296, expected"),
    "a label of 7": (changed(9, None, f"7,{PIXELS},Training"), "x.csv, line 9: label 7, expected 0 to 6"),
    "a label in words": (changed(9, None, f"sad,{PIXELS},Training"), "x.csv, line 9: label sad, expected 0 to 6"),
    "an unknown Usage": (changed(9, None, f"1,{PIXELS},Foo"), "x.csv, line 9: unknown Usage 'Foo'"),
    "a row cut short": (changed(9, None, "1,1 2 3"), "x.csv, line 9: 2 values, expected 3 (emotion,pixels,usage)"),
    "an endless cell": (changed(9, None, "1," + "1 " * 100_000 + ",Training"), "x.csv, line 9: field larger than"),
    "no pixels column": (
        changed(1, "pixels", "faces"), "x.csv, line 1: no column 'pixels' (found: 'emotion, faces, usage')"),
    "a header alone": (
        lambda t: folder(t, {"x.csv": b"emotion,pixels,Usage\n"}) / "x.csv", "x.csv: no training images"),
    "an id that is not unique": (
        lambda t: folder(t, {"x.csv": WITH_IDS + WITH_IDS.splitlines()[1] + b"\n"}) / "x.csv", "line 37: the id"),
    "a bad row in an archive": (lambda t: tarred(t / "x.tgz", {"a/b.csv": CSV + b"1,1 2,Training\n"}),
                                "x.tgz: a/b.csv, line 37: 2 pixels, expected 2304"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_writes_nothing(case, tmp_path, lab, monkeypatch):
    make, message = BAD[case]
    with pytest.raises(UserError) as error:
        stage(make(tmp_path), monkeypatch)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400
    assert list(lab.iterdir()) == []


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 10)
    with pytest.raises(UserError, match="refused, more than 10 files"):
        sources.read(str(FORMS["zip"](tmp_path)))


# FER2013: the name follows the content.

@pytest.fixture
def small_fer2013(monkeypatch):
    """Let the tiny dataset stand for the published one."""
    counts = {split: tuple(DATA.counts()[split]) for split in ("train", "public", "private")}
    monkeypatch.setattr(sources, "FER2013_COUNTS", counts)
    monkeypatch.setattr(sources, "FER2013_DIGEST", DATA.digest)


def test_fer2013_is_known_by_digest_md5_or_counts(small_fer2013, tmp_path, monkeypatch):
    forms = ("folder", "zip", "csv", "icml csv")
    names = {form: sources.read(str(FORMS[form](tmp_path / form)))[0].name for form in forms}
    assert names["folder"] == names["zip"] == "fer2013"
    assert names["csv"] == names["icml csv"] == "fer2013 (csv, unverified digest)"
    monkeypatch.setattr(sources, "FER2013_CSV", {hashlib.md5(ICML).hexdigest()})
    assert sources.read(str(tmp_path / "icml csv/icml_face_data.csv"))[0].name == "fer2013"
    assert sources.read(str(tmp_path / "csv/x.csv"))[0].name == "fer2013 (csv, unverified digest)"


def test_fer2013_is_taken_from_the_variable_in_any_form(small_fer2013, tmp_path, monkeypatch, lab):
    tables = []
    for form in ("zip", "csv"):
        monkeypatch.setenv("FER2013", str(FORMS[form](tmp_path / form)))
        stage("fer2013", monkeypatch)
        tables.append((lab / "data/raw/faces.npy").read_bytes() + (lab / "data/raw/table.csv").read_bytes())
    assert tables[0] == tables[1] and read_json(lab / "data/source.json")["asked"] == "fer2013"


@pytest.mark.parametrize("make, message", [
    (lambda t: t / "none.zip", "not found"),
    (lambda t: zipped(t / "x.zip", images(tiny(train=4))), "not FER2013: train/angry has 4 images, FER2013 3"),
    (lambda t: zipped(t / "x.zip", images(tiny(seed=1))), "not FER2013: the counts are right, but the pixels differ")])
def test_a_wrong_variable_is_an_error_and_nothing_else_is_tried(
        make, message, small_fer2013, tmp_path, monkeypatch, lab):
    monkeypatch.setenv("FER2013", str(make(tmp_path)))
    monkeypatch.setattr(sources, "download", None)
    with pytest.raises(UserError, match=message):
        stage("fer2013", monkeypatch)
    assert list(lab.iterdir()) == []


# Addresses, against a server on this machine.

@pytest.fixture
def server(monkeypatch):
    """A server that answers each request with the next of `answers` (the last one for ever): functions of a handler."""
    import pooch

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.paths.append(self.path)
            (site.answers.pop(0) if len(site.answers) > 1 else site.answers[0])(self)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(pooch.core, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads, listening.block_on_close = True, False
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        site = types.SimpleNamespace(url=f"http://127.0.0.1:{listening.server_port}", paths=[], answers=[],
                                     stop=threading.Event())
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


def zip_bytes(data=DATA):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in images(data).items():
            archive.writestr(name, content)
    return file.getvalue()


ZIP = zip_bytes()
BROKEN = send(ZIP[:5000], length=len(ZIP))
FIX = "; download it by hand and set FER2013=<file>"


def test_fer2013_comes_from_kaggle_once_and_is_kept_under_the_main_checkout(
        server, small_fer2013, monkeypatch, lab, capsys):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [send(b"", 302, Location="/storage/archive.zip?signed=1"), send(ZIP)]
    for _ in range(2):
        stage("fer2013", monkeypatch)
    assert server.paths == ["/api/v1/datasets/download/msambare/fer2013", "/storage/archive.zip?signed=1"]
    assert equal(Dataset.load(lab / "data/raw"), DATA) and Dataset.load(lab / "data/raw").name == "fer2013"
    assert len(list((lab / ".ferlab/downloads").iterdir())) == 1
    assert read_json(lab / "data/source.json")["url"].endswith("/msambare/fer2013")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("downloading http://127.0.0.1")
    assert lines[1] == f"fer2013: 35 images (train 21, public 7, private 7), digest {DATA.digest[:12]}"


def test_a_broken_transfer_is_repeated(server, small_fer2013, monkeypatch):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [BROKEN, send(b"", 503), send(ZIP)]
    assert equal(sources.read("fer2013")[0], DATA) and len(server.paths) == 3


@pytest.mark.parametrize("answer, message, requests", [
    (BROKEN, "the transfer broke off", 3),
    (send(b"", 404), "the server answers 404 Not Found", 1),
    (send(b"", 403), "the server answers 403 Forbidden", 1),
    (send(b"", 500), "the server answers 500 Internal Server Error", 3),
    (send(b"<!DOCTYPE html><title>Sign in</title>"), "is a web page, not data", 1),
    (send(ZIP[:5000]), "truncated or damaged zip", 1),
    (send(zip_bytes(tiny(train=2))), "not FER2013: train/angry has 2 images, FER2013 3; train/", 1),
    (send(b"", 302, Location="http://example.invalid/x.zip"), "http://example.invalid/x.zip: only https", 1),
    (send(b"", length=5 << 30), "larger than 4 GiB", 1),
    (None, "the server is too slow", 3)])
def test_a_failed_download_says_why_and_what_to_do_and_keeps_nothing(
        answer, message, requests, server, small_fer2013, monkeypatch, lab):
    def silent(handler):
        send(ZIP[:3000], length=len(ZIP))(handler)
        server.stop.wait(5)

    monkeypatch.setattr(sources, "TIMEOUT", (1, 0.2))
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [answer or silent]
    with pytest.raises(UserError) as error:
        stage("fer2013", monkeypatch)
    assert message in str(error.value) and str(error.value).endswith(FIX) and "\n" not in str(error.value)
    assert len(server.paths) == requests
    assert [path for path in lab.rglob("*") if path.is_file()] == []


def test_no_connection_is_said(monkeypatch, server, small_fer2013):
    monkeypatch.setenv("FERLAB_KAGGLE", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="no connection; download it by hand and set FER2013=<file>"):
        sources.read("fer2013")


def test_an_address_is_read_like_a_path_and_kept_by_address(server):
    server.answers = [send(ZIP), send(zip_bytes(tiny(seed=1)))]
    (first, source), (second, _) = sources.read(f"{server.url}/a.zip"), sources.read(f"{server.url}/b.zip")
    assert first.name == f"custom-{DATA.digest[:8]}" and not equal(first, second) and source["url"].endswith("/a.zip")
    assert equal(sources.read(f"{server.url}/a.zip")[0], first) and len(server.paths) == 2


@pytest.mark.parametrize("address", ["http://example.org/x.zip", "ftp://127.0.0.1/x.zip", "file:///etc/passwd",
                                     "http://127.0.0.1.example.org/x", "https://[x/y"])
def test_only_https_addresses_are_read(address):
    with pytest.raises(UserError, match="only https addresses|Invalid IPv6|IPv6"):
        sources.read(address)


def test_the_sample_is_one_of_the_sources(monkeypatch):
    monkeypatch.setattr(sample, "draw", lambda: DATA)
    assert sources.read("sample") == (DATA, {"kind": "sample"})


# The real data.

REAL = os.environ.get("FER2013", "")
CK48 = os.environ.get("CK48", "")


@pytest.mark.skipif(not CK48, reason="needs CK+: set CK48 to its zip")
def test_ck48_has_no_splits_and_is_refused_as_a_dataset():
    with pytest.raises(UserError, match="in no split folder"):
        sources.read(CK48)


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs the real images: set FER2013 to their zip")
def test_the_real_fer2013_is_known_and_its_csv_form_counts_right(tmp_path, monkeypatch):
    monkeypatch.setenv("FER2013", REAL)
    data, _ = sources.read("fer2013")
    assert data.name == "fer2013" and data.digest == sources.FER2013_DIGEST and not sources.difference(data)
    assert data.counts().sum().to_dict() == {"train": 28709, "public": 3589, "private": 3589}
    assert data.table["id"].is_unique and data.classes == CLASSES
    (tmp_path / "x.csv").write_text(csv_text(data, ("emotion", " Usage", " pixels")))
    copy, _ = sources.read(str(tmp_path / "x.csv"))
    assert copy.name == "fer2013 (csv, unverified digest)" and not sources.difference(copy)
    assert np.array_equal(copy.faces, data.faces) and copy.table["label"].equals(data.table["label"])
