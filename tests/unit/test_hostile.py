"""A corpus of hostile inputs, generated here: each is refused in one line, and leaves nothing.

The line says file, place and value. `tests/unit/test_bad_data.py` holds the mistakes that people
make; this is what nobody makes by accident.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ferlab import files, params
from ferlab.data.readers import sources
from ferlab.evaluation.network import loading
from ferlab.files import UserError
from tests.builders import csv_text, folder, image, images, tarred, tiny, usable, zipped
from tests.conftest import REPOSITORY

DATA = tiny()
IMAGES = images(DATA)
CSV = csv_text(DATA).encode()
NAME = "train/angry/Training_00000.png"
ONES = " ".join(["1"] * 2304)


@pytest.fixture(autouse=True)
def nothing_left(lab):
    """Nothing may appear in the working directory; `tmp_path` holds the input."""
    yield
    assert list(lab.iterdir()) == []


def refused(call, *arguments):
    """The message of the UserError, after the checks that hold for every one."""
    with pytest.raises(UserError) as error:
        call(*arguments)
    text = str(error.value)
    assert len(text) < 2 * files.MAX_LENGTH
    assert text.isprintable(), ascii(text)
    return text


def write(path, content):
    path.write_bytes(content)
    return path


def zip_of(t, *members, method=zipfile.ZIP_DEFLATED):
    """x.zip of good images, then `members` as (name or ZipInfo, content)."""
    path = t / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (*IMAGES.items(), *members):
            archive.writestr(name, content)
    return path


def patched(path, *changes):
    """Overwrite bytes of the last entry in a zip's central directory.

    changes: (offset in the entry, struct format, value).
    """
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    for offset, form, value in changes:
        struct.pack_into(form, content, entry + offset, value)
    return write(path, bytes(content))


def wrong_crc(t):
    return patched(zip_of(t, ("val/sad/a.png", image(DATA.faces[0]))), (16, "<I", 1))


def lying_zip(t):
    """A member that says 10 bytes and unpacks to 32 MiB."""
    return patched(zip_of(t, ("val/sad/a.png", bytes(32 << 20))), (24, "<I", 10))


def overlapping(t):
    """A thousand names for one packed member of 1 MiB: kilobytes that unpack to a gigabyte."""
    path = zip_of(t, ("val/sad/0.png", bytes(1 << 20)))
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("val/sad/0.png")
        for number in range(1, 1000):
            other = zipfile.ZipInfo(f"val/sad/{number}.png")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(other, name, getattr(first, name))
            archive.filelist.append(other)
        archive._didModify = True
    return path


def tar_entry(t, **values):
    path = tarred(t / "x.tar", IMAGES, "w")
    info = tarfile.TarInfo(values.pop("name", "val/sad/a.png"))
    for name, value in values.items():
        setattr(info, name, value)
    with tarfile.open(path, "a") as archive:
        archive.addfile(info)
    return path


def twice(t):
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zip_of(t, (NAME, image(DATA.faces[5])))


def inner(t):
    zipped(t / "inner.zip", IMAGES)
    return zipped(
        t / "x.zip", {"fer2013.zip": (t / "inner.zip").read_bytes(), "README": b"look inside"}
    )


ARCHIVES = {
    "a zip within a zip": (inner, "holds neither class folders"),
    "a member whose checksum is wrong": (wrong_crc, "Bad CRC-32"),
    "a member larger than it says": (lying_zip, "truncated or damaged zip"),
    "a member of 4 GiB by its own word": (
        lambda t: patched(zip_of(t, ("a.png", b"x")), (24, "<I", 0xFFFFFFF0)),
        "unpacks to more",
    ),
    "a member that starts behind the end": (
        lambda t: patched(zip_of(t, ("val/sad/a.png", b"x")), (42, "<I", 0x7FFFFFFF)),
        "damaged zip",
    ),
    "an unknown packing method": (
        lambda t: patched(zip_of(t, ("val/sad/a.png", b"x")), (10, "<H", 99)),
        "damaged zip",
    ),
    "a thousand names for one bomb": (overlapping, "unpacks to more"),
    "one name twice": (twice, f"holds the member {NAME} twice"),
    "names that differ in case alone": (
        lambda t: zip_of(t, (NAME.replace("angry", "Angry"), image(DATA.faces[5]))),
        "the id",
    ),
    "a name that walks up and down": (
        lambda t: zip_of(t, ("train/../../../etc/x.png", b"x")),
        "points outside",
    ),
    "a name with a Windows path": (lambda t: zip_of(t, ("..\\..\\x.png", b"x")), "points outside"),
    "a name that writes backwards": (
        lambda t: zip_of(t, ("train/angry/\u202egnp.exe", b"x")),
        "odd characters",
    ),
    "a name that clears the screen": (
        lambda t: zip_of(t, ("train/\x1b[2J/x.png", b"x")),
        "odd characters",
    ),
    "a name of 60,000 letters": (
        lambda t: zip_of(t, ("train/angry/" + "a" * 60_000 + ".png", b"x")),
        "...",
    ),
    "a name a thousand folders deep": (
        lambda t: zip_of(t, ("d/" * 1000 + "train/angry/a.png", b"x")),
        "holds class folders in",
    ),
    "an empty zip": (lambda t: zipped(t / "x.zip", {}), "holds neither class folders"),
    "a tar member longer than the tar": (lambda t: tar_entry(t, size=1 << 20), "damaged tar"),
    "a tar member of 8 TiB": (
        lambda t: tar_entry(t, size=1 << 43),
        "refused, it unpacks to more than",
    ),
    "a tar link to /etc": (
        lambda t: tar_entry(t, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "link or device",
    ),
    "a tar name in an extended header": (
        lambda t: tar_entry(t, pax_headers={"path": "../../evil.png"}),
        "points outside",
    ),
    "a tar checksum": (
        lambda t: write(t / "x.tar", tar_entry(t).read_bytes().replace(b"ustar", b"uxtar")),
        "neither a folder,",
    ),
    "a gzip bomb": (
        lambda t: tarred(t / "x.tar.gz", {"a.csv": bytes(70 << 20)}),
        "unpacks to more",
    ),
    "a bzip2 bomb": (
        lambda t: tarred(t / "x.tar.bz2", {"a.csv": bytes(70 << 20)}, "w:bz2"),
        "unpacks to more",
    ),
    "gzip within gzip": (
        lambda t: write(t / "x.gz", gzip.compress(gzip.compress(CSV))),
        "x.gz: holds neither class folders",
    ),
}


def cells(label="0", pixels=ONES, usage="Training"):
    return CSV.replace(
        CSV.splitlines()[1], f"{label},{pixels},{usage}".encode("utf-8", "surrogateescape"), 1
    )


def pixel(text):
    return cells(pixels=ONES.replace("1", text, 1))


CSVS = {
    "a pixel that is not a number": (pixel("nan"), "line 2: pixel nan, expected 0 to 255"),
    "an infinite pixel": (pixel("inf"), "line 2: pixel inf"),
    "a pixel with a fraction": (pixel("1.5"), "line 2: pixel 1.5"),
    "a pixel in scientific writing": (pixel("1e2"), "line 2: pixel 1e2"),
    "a pixel in hexadecimal": (pixel("0x10"), "line 2: pixel 0x10"),
    "a pixel with an underscore": (pixel("1_0"), "line 2: pixel 1_0"),
    "a pixel in Arabic digits": (pixel("\u0661"), "line 2: pixel \u0661"),
    "a pixel of 5,000 digits": (pixel("9" * 5000), "line 2: pixel 999"),
    "pixels parted by commas": (
        cells(pixels=ONES.replace(" ", ",")),
        "line 2: 2306 values, expected 3",
    ),
    "pixels parted by semicolons": (
        cells(pixels=ONES.replace(" ", ";")),
        "line 2: 1 pixels, expected 2304",
    ),
    "pixels over two lines": (cells(pixels=f'"{ONES}\n{ONES}"'), "4608 pixels, expected 2304"),
    "a label that is not a number": (cells("nan"), "line 2: label nan, expected 0 to 6"),
    "a label with a fraction": (cells("1.0"), "line 2: label 1.0"),
    "a negative label": (cells("-1"), "line 2: label -1"),
    "a label of 5,000 digits": (cells("1" * 5000), "line 2: label 111"),
    "a label in Arabic digits": (cells("\u0661"), "line 2: label \u0661"),
    "an empty label": (cells(""), "line 2: label , expected"),
    "a formula for a Usage": (cells(usage="=cmd()"), "unknown Usage '=cmd()'"),
    "a Usage with a newline": (cells(usage='"Train\ning"'), "unknown Usage"),
    "a Usage of 100,000 letters": (cells(usage="x" * 100_000), "line 2: unknown Usage 'xxx"),
    "a quote that nobody closes": (CSV.replace(b"0,", b'0,"', 1), "line"),
    "a zero byte in the pixels": (pixel("\0"), "neither a folder, a zip, a tar nor a CSV"),
    "a zero byte further down": (CSV.replace(b"\n1,", b"\n1,\0", 1), "pixel"),
    "bytes that are no UTF-8": (cells("\udcff\udcfe"), "label"),
    "UTF-16": (CSV.decode().encode("utf-16"), "neither a folder"),
    "a header in UTF-16 without its mark": (b"e\xc3\x28" + CSV, "no column 'emotion'"),
    "a column twice": (
        CSV.replace(b"emotion,pixels,Usage", b"emotion,pixels,emotion", 1),
        "line 1: the column 'emotion' stands there 2 times",
    ),
    "a header of 100,000 columns": (b"a," * 100_000 + CSV, "no column 'emotion'"),
    "no header": (CSV.split(b"\n", 1)[1], "line 1: no column 'emotion'"),
    "a header parted by semicolons": (CSV.replace(b",", b";"), "line 1: no column 'emotion'"),
    "a line that clears the screen": (cells(usage="\x1b[2J"), "unknown Usage"),
    "a million empty cells": (CSV + b"," * 1_000_000 + b"\n", "1000001 values, expected 3"),
    "a byte order mark and nothing else": (b"\xef\xbb\xbf", "no column 'emotion'"),
}


def png(width, height, depth=8, colour=0, chunks=(), data=b""):
    """A PNG by hand, so that it may lie."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [
        head,
        *(chunk(kind, content) for kind, content in chunks),
        chunk(b"IDAT", zlib.compress(data)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_bomb():
    file = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(file, "TIFF", compression="group4")
    return file.getvalue()


GOOD_PNG = image(DATA.faces[0])
PICTURES = {
    "a PNG of four thousand million pixels": (png(65535, 65535), "pixels, at most"),
    "a PNG of no pixels": (png(0, 48), "not an image"),
    "a PNG without its pixels": (png(48, 48), "damaged image"),
    "a PNG of a depth that is none": (png(48, 48, depth=7), "image"),
    "a PNG cut in two": (GOOD_PNG[: len(GOOD_PNG) // 2], "damaged image"),
    "a PNG with a wrong checksum": (GOOD_PNG[:40] + b"\0\0\0\0" + GOOD_PNG[44:], "image"),
    "a PNG with a text of 64 MiB": (
        png(
            48,
            48,
            chunks=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(32 << 20)))],
            data=bytes(49 * 48),
        ),
        "image",
    ),
    "a TIFF of 200 KB and 1,600 million pixels": (tiff_bomb(), "pixels, at most"),
    "a PPM of a million million pixels": (
        b"P5 1000000 1000000 255\n" + bytes(99),
        "pixels, at most",
    ),
    "a GIF header": (b"GIF89a\x30\0\x30\0", "image"),
    "a JPEG header": (b"\xff\xd8\xff\xe0\0\x10JFIF", "image"),
    "a BMP of a negative width": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, -48, 48, 1, 8, 0, 0, 0, 0, 0, 0),
        "pixels, at most",
    ),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n(r) file", "not an image"),
    "an SVG": (
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "not an image",
    ),
    "a web page": (b"<!doctype html><title>404</title>", "is a web page, not data"),
    "an ICO": (b"\0\0\1\0\1\0\x30\x30\0\0\1\0\x20\0" + bytes(60), "not an image"),
    "a pickle": (b"\x80\x04\x95\x00cos\nsystem\n(S'true'\ntR.", "not an image"),
}
CORPUS = {
    **ARCHIVES,
    **{
        f"a CSV with {name}": (lambda t, c=content: write(t / "x.csv", c), said)
        for name, (content, said) in CSVS.items()
    },
    **{
        f"an image: {name}": (lambda t, c=content: zip_of(t, ("val/sad/bad.png", c)), said)
        for name, (content, said) in PICTURES.items()
    },
}


@pytest.mark.parametrize("case", CORPUS)
def test_hostile_data_is_refused_in_one_line_and_leaves_nothing(case, tmp_path):
    make, message = CORPUS[case]
    path = make(tmp_path)
    before = path.read_bytes()
    text = refused(sources.read, str(path))
    assert path.name in text
    assert message in text
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        png(48, 48, depth=16, data=bytes(97 * 48)),
        image(DATA.faces[0], "GIF"),
        image(DATA.faces[0], "TIFF"),
    ],
    ids=["16 bits", "GIF", "TIFF"],
)
def test_what_is_odd_but_honest_is_read(tmp_path, content):
    data, _ = sources.read(str(zip_of(tmp_path, ("val/sad/odd.png", content))))
    assert len(data.split("validation").faces) == 1


def test_of_an_animation_the_first_picture_counts(tmp_path):
    first, second = Image.fromarray(DATA.faces[0]), Image.fromarray(DATA.faces[1])
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=[second] * 50)
    data, _ = sources.read(str(zip_of(tmp_path, ("val/sad/moving.gif", file.getvalue()))))
    assert np.abs(data.split("validation").faces[0].astype(int) - DATA.faces[0]).max() <= 1


def test_a_link_out_of_a_folder_is_the_users_own_but_a_loop_ends(tmp_path):
    top = folder(tmp_path / "x", IMAGES)
    (top / "train/loop").symlink_to(top / "train")
    with pytest.raises(UserError) as error:
        sources.read(str(top))
    assert "\n" not in str(error.value)


TEXT = (REPOSITORY / "params.yaml").read_text()


def with_line(line, key="  epochs: 12"):
    assert TEXT.count(f"{key}\n") == 1
    return TEXT.replace(f"{key}\n", f"{line}\n")


NINES = [
    ("a", "x", *"x" * 8),
    *((name, *[f"*{before}"] * 9) for before, name in zip("abcdefgh", "bcdefghi", strict=True)),
]
LAUGHS = "".join(f"{name}: &{name} [{', '.join(nine)}]\n" for name, *nine in NINES)
LAUGHS_WITHIN = "[" + ", ".join(f"&{name} [{', '.join(nine)}]" for name, *nine in NINES) + "]"
SETTINGS = {
    "a thousand million laughs": (LAUGHS + TEXT, "unknown key"),
    "laughs as a value": (with_line(f"  epochs: {LAUGHS_WITHIN}"), "train.epochs = [['x', 'x', "),
    "a value that holds itself": (with_line("  epochs: &a [*a]"), "train.epochs"),
    "a section that is another": (
        TEXT.replace("download:", "download: &d", 1) + "more: *d\n",
        "unknown key more",
    ),
    "an unknown anchor": (with_line("  epochs: *nothing"), "line"),
    "a thousand brackets": (with_line("  epochs: " + "[" * 1500), "not valid YAML"),
    "a Python object": (
        with_line("  epochs: !!python/object/apply:os.system ['touch hacked']"),
        "not valid YAML",
    ),
    "a tag of its own": (with_line("  epochs: !run x"), "not valid YAML"),
    "bytes": (with_line("  epochs: !!binary aGVsbG8="), "train.epochs"),
    "a date": (with_line("  epochs: 1201-01-01"), "train.epochs"),
    "a set": (with_line("  epochs: !!set {a, b}"), "train.epochs"),
    "a key twice": (with_line("  epochs: 12\n  epochs: 21"), "not valid YAML"),
    "a key that is a list": (with_line("  ? [a, b]\n  : 1"), "params.yaml"),
    "a key with a newline": (with_line('  "epo\\nchs": 18'), "unknown key"),
    "a key of 10,000 letters": (with_line(f"  {'k' * 900}: 18"), "unknown key train.kkk"),
    "a value of 100,000 letters": (with_line(f"  epochs: {'v' * 100_000}"), "train.epochs = 'vvv"),
    "a value that clears the screen": (with_line('  epochs: "\\e[2J"'), "train.epochs"),
    "a number of 5,000 digits": (with_line("  epochs: " + "9" * 5000), "params.yaml"),
    "an infinite number": (
        with_line("  learning_rate: .inf", "  learning_rate: 0.01"),
        "train.learning_rate = inf",
    ),
    "a number beyond all floats": (
        with_line("  learning_rate: 1e400", "  learning_rate: 0.01"),
        "train.learning_rate = inf",
    ),
    "a seed below zero": (
        with_line("  seed: -1\n\nevaluate:", "  seed: 0\n\nevaluate:"),
        "train.seed = -1",
    ),
    "a network by a path": (with_line("  model: ../../evil", "  model: small"), "unknown network"),
    "a network that is the package": (
        with_line("  model: __init__", "  model: small"),
        "unknown network",
    ),
    "a number in full-width digits": (with_line("  epochs: \uff11\uff18"), "train.epochs"),
    "two documents": (TEXT + "---\n" + TEXT, "not valid YAML"),
    "a list": ("- 1\n", "expected the sections"),
    "a tab": (with_line("\tepochs: 20"), "not valid YAML"),
    "a zero byte": (with_line("  epochs: \0"), "not valid YAML"),
    "a merge of nothing": (with_line("  <<: 5"), "not valid YAML"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_hostile_parameters_are_refused_in_one_line(case, tmp_path):
    text, message = SETTINGS[case]
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert message in refused(params.load, path)


@pytest.mark.parametrize(
    "content",
    [TEXT.encode("utf-16"), b"\xff\xfe\x00", b"\x80\x81"],
    ids=["UTF-16", "a mark", "bytes"],
)
def test_parameters_in_another_encoding_are_refused_in_one_line(tmp_path, content):
    assert "not valid YAML" in refused(params.load, write(tmp_path / "params.yaml", content))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A sound model of three classes, as a `.keras` file."""
    from ferlab.training import backend, model_file

    keras = backend.start("tensorflow")
    path = tmp_path_factory.mktemp("model") / "model.keras"
    layers = [
        keras.Input((48, 48, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax", name="dense"),
    ]
    model_file.save(keras.Sequential(layers, name="good"), path, usable("abc"))
    return path


def rewritten(network, t, **changes):
    """The model with some members replaced, by a function of the old content or None for none."""
    with zipfile.ZipFile(network) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, change in changes.items():
        name = {"config": "config.json", "weights": "model.weights.h5"}.get(name, name)
        members[name] = change(members.get(name)) if change else None
    return zipped(
        t / "model.keras",
        {name: content for name, content in members.items() if content is not None},
    )


def configured(old, new):
    def change(config):
        assert old in config.decode()
        return config.decode().replace(old, new).encode()

    return change


def lambda_layer(network, t):
    import keras

    from ferlab.training import model_file

    model = keras.Sequential(
        [keras.Input((48, 48, 1)), keras.layers.Flatten(), keras.layers.Lambda(lambda x: x[:, :3])]
    )
    model_file.save(model, t / "model.keras", usable("abc"))
    return t / "model.keras"


def old_format(network, t):
    import keras

    keras.models.load_model(network).save(t / "model.h5")
    return (t / "model.h5").rename(t / "model.keras")


SYSTEM = json.dumps(
    {"module": "os", "class_name": "system", "config": {"command": "touch hacked"}}
    | {"registered_name": None}
)
MODELS = {
    "not a zip": (lambda n, t: write(t / "model.keras", b"hello"), "not a usable Keras model"),
    "empty": (lambda n, t: write(t / "model.keras", b""), "not a usable Keras model"),
    "a pickle": (
        lambda n, t: write(
            t / "model.keras", b"\x80\x04\x95\x00cos\nsystem\n(S'touch hacked'\ntR."
        ),
        "not a usable",
    ),
    "HDF5 under another name": (old_format, "not a usable Keras model"),
    "cut in two": (
        lambda n, t: write(t / "model.keras", n.read_bytes()[:5000]),
        "not a usable Keras model",
    ),
    "Python code in a Lambda layer": (lambda_layer, "not a usable Keras model"),
    "a system call for a network": (
        lambda n, t: rewritten(n, t, config=lambda old: SYSTEM.encode()),
        "not a usable",
    ),
    "a layer of a module of its own": (
        lambda n, t: rewritten(
            n, t, config=configured('"module": "keras.layers"', '"module": "evil.layers"')
        ),
        "not a usable",
    ),
    "a configuration that is no JSON": (
        lambda n, t: rewritten(n, t, config=lambda old: b"{"),
        "not a usable",
    ),
    "a configuration of another kind": (
        lambda n, t: rewritten(n, t, config=lambda old: b"[]"),
        "not a usable",
    ),
    "a thousand brackets": (
        lambda n, t: rewritten(n, t, config=lambda old: b"[" * 100_000),
        "not a usable",
    ),
    "no configuration": (lambda n, t: rewritten(n, t, config=None), "not a usable"),
    "no weights": (lambda n, t: rewritten(n, t, weights=None), "not a usable"),
    "weights of nothing": (
        lambda n, t: rewritten(n, t, weights=lambda old: b"x" * 100),
        "not a usable",
    ),
    "weights of another network": (
        lambda n, t: rewritten(n, t, config=configured('"units": 3', '"units": 4')),
        "not a usable",
    ),
    "a layer of more units than numbers can address": (  # TensorFlow tries 10 s for fewer
        lambda n, t: rewritten(n, t, config=configured('"units": 3', f'"units": {10**17}')),
        "not a usable",
    ),
    "a bomb": (
        lambda n, t: patched(rewritten(n, t), (24, "<I", 0xF0000000)),
        "unpacks to 3840 MiB",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_hostile_model_is_refused_in_one_line_and_runs_nothing(case, network, tmp_path):
    make, message = MODELS[case]
    assert message in refused(loading.load, make(network, tmp_path), "tensorflow", "abc")


def test_a_model_that_is_neither_pinned_nor_trained_here_is_refused(network, tmp_path):
    lock = {"stages": {"train": {"outs": [{"path": "models/model.keras", "md5": "0" * 32}]}}}
    top = folder(
        tmp_path / "x",
        {"models/model.keras": network.read_bytes(), "dvc.lock": json.dumps(lock).encode()},
    )
    path = top / "models/model.keras"
    assert "dvc.lock says 00000000000000000000000000000000" in refused(
        loading.load, path, "tensorflow", "abc"
    )
    digest = hashlib.md5(network.read_bytes()).hexdigest()
    folder(tmp_path / "lab", {f".ferlab/runs/{digest}.json": b"{}"})
    loading.load(path, "tensorflow", "abc")
    shutil.rmtree(tmp_path / "lab/.ferlab")
    (top / "dvc.lock").write_text((top / "dvc.lock").read_text().replace("0" * 32, digest))
    loading.load(path, "tensorflow", "abc")


def test_a_sound_model_is_loaded_but_not_for_other_classes(network):
    assert loading.load(network, "tensorflow", "abc").count_params() == 3 * (48 * 48 + 1)
    assert "has the classes a, b, c; the data have a, b, d" in refused(
        loading.load, network, "tensorflow", "abd"
    )


def test_the_corpus_is_as_large_as_the_docs_say():
    match = re.search(r"(\d+) hostile inputs", (REPOSITORY / "docs/reliability.md").read_text())
    assert int(match[1]) == len(CORPUS) + len(SETTINGS) + len(MODELS)
