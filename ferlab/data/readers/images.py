"""From the bytes of an image file to a face, for training data, photos, the page and the server."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from ferlab.data.dataset import SIZE
from ferlab.data.readers.archives import refuse_stand_in
from ferlab.files import UserError

NAMES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".gif", ".tif", ".tiff")
NAMES += (".webp", ".avif", ".pgm", ".ppm", ".pbm", ".pnm")
UNREAD = (".heic", ".heif", ".jxl", ".jp2", ".dng", ".cr2", ".nef", ".arw", ".raw", ".svg", ".psd")
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # as phones save photos
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "PPM")
GRAY = 8  # levels: the channels of a gray picture differ by less on average, in a lossy format too
MAX_PIXELS = 50_000_000  # of what is decoded; a JPEG of more is halved while it is decoded
MAX_JPEG = 250_000_000  # telephones make 200
MAX_SIDE = 1024  # pixels: of a larger face, every n-th row and column is enough
# How a JPEG's frame header goes on: its length, 8 bit, height, width, one component.
GRAY_48 = bytes((0, 11, 8, 0, SIZE, 0, SIZE, 1))


def read(content, place):
    """(face uint8 (48, 48), source size, whether it had colours) of an image file's bytes.

    Raises UserError as `decode` does.
    """
    gray = small_gray(content)
    if gray is not None:
        return gray, (SIZE, SIZE), False
    image = decode(content, place)
    return face(image), image.size, has_colours(image)


def small_gray(content):
    """uint8 (48, 48), or None: a short cut for a whole gray JPEG of that very size without EXIF.

    Pillow's decoder gives the same pixels as by way of `decode` and `face`, but most of their time
    goes into what is around it.
    """
    at, frame = 2, b""
    if content[:2] != b"\xff\xd8":
        return None
    while (marker := content[at : at + 2]) in (b"\xff\xe0", b"\xff\xdb", b"\xff\xc4", b"\xff\xc0"):
        if marker == b"\xff\xc0":
            frame = content[at + 2 : at + 10]
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    if marker != b"\xff\xda" or frame != GRAY_48:
        return None
    try:
        pixels = Image.frombytes("L", (SIZE, SIZE), content, "jpeg", "L", "").tobytes()
    except Exception:  # `decode` says what is wrong
        return None
    return np.frombuffer(pixels, np.uint8).reshape(SIZE, SIZE)


def is_named_as_one(name):
    """Whether a file's name is a picture's, also one of a kind that is not read."""
    return name.lower().endswith(NAMES + UNREAD)


def decode(content, place):
    """A Pillow image of mode L or RGB: upright, opaque (on white), 8 bit; of an animation the
    first frame. A JPEG of more than MAX_PIXELS comes with half of its width and height, or less.

    Raises UserError in the name of `place` where the bytes are not a whole image, or where it has
    more than MAX_PIXELS, a JPEG more than MAX_JPEG.
    """
    refuse_stand_in(content[:64], place)
    try:
        with warnings.catch_warnings():
            # Pillow warns of what is refused here, and of what does not matter.
            warnings.simplefilter("ignore")
            image = _opened(content)
            if image.width * image.height <= MAX_PIXELS:
                return _plain(image)
        shown = f"{image.width}x{image.height}"
    except Image.DecompressionBombError:
        shown = "far too many"
    except Exception as error:  # damaged files raise nearly anything in Pillow's decoders
        if content[4:8] == b"ftyp" and content[8:12] in HEIC:
            raise UserError(f"{place}: HEIC, which is not read here; save it as JPEG") from None
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else "damaged image"
        raise UserError(f"{place}: {reason}; replace or remove it") from None
    limits = f"{MAX_PIXELS // 10**6} million are read, of a JPEG {MAX_JPEG // 10**6} million"
    raise UserError(f"{place}: {shown} pixels, at most {limits}; make it smaller")


def _opened(content):
    """A Pillow image that is not decoded yet; a JPEG of up to MAX_JPEG pixels is asked to come
    small enough.

    Not a progressive one: all of it would have to be held.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:  # 179 million, for any format
        if content[:2] != b"\xff\xd8":
            raise
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
    pixels = image.width * image.height
    if MAX_PIXELS < pixels <= MAX_JPEG and not image.info.get("progressive"):
        part = 2 if (image.width + 1) // 2 * ((image.height + 1) // 2) <= MAX_PIXELS else 4
        image.draft(image.mode, (image.width // part, image.height // part))
    return image


def _plain(image):
    """A Pillow image of any mode as `decode` gives it."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") and np.asarray(image).max(initial=0) > 255:
        # 16 bit: convert("L") would clip instead of scale
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode in ("1", "I", "F") else "RGB")


def has_colours(image):
    """Whether a Pillow image of mode RGB or L shows more than gray."""
    if image.mode != "RGB":
        return False
    return bool(np.ptp(np.asarray(image).astype(np.int16), axis=2).mean() > GRAY)


def face(image):
    """uint8 (48, 48): a whole Pillow image as a face; what is shrunk is averaged over its area."""
    image = image.convert("L")
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def cut(image, box):
    """uint8 (48, 48): the square (x, y, side) of an array uint8 (H, W) or (H, W, 3).

    Where the square reaches beyond the image, the image's edge is repeated.
    """
    x, y, side = (int(value) for value in box)
    step = max(1, side // MAX_SIDE)  # a long, thin picture would be a huge square
    rows = np.arange(y, y + side, step).clip(0, len(image) - 1)
    columns = np.arange(x, x + side, step).clip(0, image.shape[1] - 1)
    return face(Image.fromarray(image[rows[:, None], columns]))
