"""Short cuts for small zip members and plain JPEGs give what zipfile and Pillow give."""

import io
import zipfile

import numpy as np
import pytest

from ferlab.data.readers import images as decoding
from ferlab.data.readers import members, sources
from tests.builders import image, images, zipped
from tests.forms import DATA, FACE, equal

pytestmark = pytest.mark.usefixtures("few_official")


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
        assert members.small_member(file, first, second.header_offset) == b"1" * 50
        assert members.small_member(file, first, second.header_offset - 1) is None
        first.CRC += 1
        assert members.small_member(file, first, second.header_offset) is None
        first.CRC, first.file_size = first.CRC - 1, 49
        assert members.small_member(file, first, second.header_offset) is None
        second.orig_filename = "c"
        assert members.small_member(file, second, archive.start_dir) is None
