"""How one file within a container is opened: small zip members in one piece, packed files to a
limit."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from bisect import bisect_right

from ferlab.files import UserError

MAX_BYTES = 4 << 30  # unpacked, of a whole archive or of a file
# Real data pack to a third at best; small archives may do better, since they cannot fill anything.
MAX_RATIO, FREE_BYTES = 200, 64 << 20
SMALL = 1 << 20  # bytes: zip members of up to this size are read in one piece
# Files packed alone, without an archive: how they begin, and what opens them.
PACKED = {
    "gz": (b"\x1f\x8b", gzip.open),
    "bz2": (b"BZh", bz2.open),
    "xz": (b"\xfd7zXZ\0", lzma.open),
}


def binary(path):
    """A file opened for reading bytes."""
    return open(path, "rb")


def unpacked(path, kind, place):
    """The content of a file packed as `kind` of PACKED, binary; its size is unknown until it is
    read."""
    limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))
    refusal = f"{place}: refused, it unpacks to more than {limit >> 20} MiB"
    return io.BufferedReader(_Limited(PACKED[kind][1](path), limit, refusal), 1 << 17)


class _Limited(io.RawIOBase):
    """What `file` holds, up to `limit` bytes; UserError(`refusal`) beyond."""

    def __init__(self, file, limit, refusal):
        self.file, self.left, self.refusal = file, limit, refusal

    def readable(self):
        return True

    def readinto(self, buffer):
        count = self.file.readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise UserError(self.refusal)
        return count

    def close(self):
        self.file.close()
        super().close()


def zip_opener(archive):
    """A function that opens a member (a ZipInfo) of a zipfile.ZipFile.

    zipfile takes longer to open a small member than to unpack it. Here it is read in one piece,
    where its header, size and checksum are what they should be; any other is left to zipfile.
    """
    edges = sorted({info.header_offset for info in archive.infolist()} | {archive.start_dir})

    def open_member(info):
        after = bisect_right(edges, info.header_offset)
        if max(info.compress_size, info.file_size) <= SMALL and after < len(edges):
            content = small_member(archive.fp, info, edges[after])
            if content is not None:
                return io.BytesIO(content)
        return archive.open(info)

    return open_member


def small_member(file, info, end):
    """The content of a zip member that ends by byte `end` of `file`, None where anything is odd."""
    packed = _packed_member(file, info, end)
    if packed is None:
        return None
    try:
        if info.compress_type == zipfile.ZIP_DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflate.decompress(packed, info.file_size + 1)
        else:
            content = packed if info.compress_type == zipfile.ZIP_STORED else b""
    except zlib.error:
        return None
    return content if len(content) == info.file_size and zlib.crc32(content) == info.CRC else None


def _packed_member(file, info, end):
    """A member's bytes as they stand in the zip, None where its own header is not as expected."""
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    start, length = info.header_offset, 30 + len(name) + info.compress_size
    if start < 0 or info.flag_bits & ~0x80E:  # all but: deflate's level, sizes that follow, UTF-8
        return None
    file.seek(start)
    head = file.read(length + len(info.extra) + 64)  # the directory's extra field may be another
    if len(head) < 30 or head[:4] != b"PK\3\4" or head[30 : 30 + len(name)] != name:
        return None
    name_size, extra_size = struct.unpack_from("<HH", head, 26)
    length += extra_size
    if name_size != len(name) or length > len(head) or start + length > end:
        return None
    return head[length - info.compress_size : length]
