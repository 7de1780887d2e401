"""Containers: folders, zips, tars and single files, as (parts of the name, handle) to read from.

Nothing is unpacked to disk; what no honest archive holds (outside paths, links, bombs) is refused before it is read.
"""

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ferlab.files import UserError, one_line

MAX_MEMBERS, MAX_BYTES = 200_000, 4 << 30
# Real data packs to a third at best; small archives are free to do better, since they cannot fill anything.
MAX_RATIO, FREE_BYTES = 200, 64 << 20
THREADS = 2
SMALL = 1 << 20  # bytes: zip members of up to this size are read in one piece
PACKED = {
    "gz": (b"\x1f\x8b", gzip.open),
    "bz2": (b"BZh", bz2.open),
    "xz": (b"\xfd7zXZ\0", lzma.open),
}
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    OverflowError,
    UnicodeDecodeError,
)


@contextmanager
def opened(path, place):
    """Yield the kind, files as [(name's parts, handle)], folders as a set of parts, and what opens a handle."""
    if not path.exists():
        raise UserError(
            f"{place}: not found"
            + ("" if path.is_absolute() and str(path) == place else f" ({path})")
        )
    kind = kind_of(path, place)
    try:
        if kind == "folder":
            yield kind, *checked(walk(path, place), None, place), read_binary
        elif kind == "zip":
            with open(path, "rb", SMALL) as file, zipfile.ZipFile(file) as archive:
                entries = ((i.filename, zip_kind(i), i.file_size, i) for i in archive.infolist())
                yield kind, *checked(entries, path.stat().st_size, place), zip_opener(archive)
        elif kind == "tar":
            with tarfile.open(path) as archive:
                entries = ((m.name, tar_kind(m), m.size, m) for m in archive)
                files, folders = checked(entries, path.stat().st_size, place)
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(512) != bytes(
                    512
                ):  # tarfile takes a cut between two members for the end
                    raise tarfile.ReadError("no end mark")
                yield kind, files, folders, archive.extractfile
        elif kind in PACKED:
            name = path.stem if path.suffix.lower() == f".{kind}" else path.name
            yield kind, [((name,), path)], set(), partial(unpacked, kind=kind, place=place)
        else:
            yield kind, [((path.name,), path)], set(), read_binary
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # a full disk, no permission; damage has no number, or comes from a seek to nowhere
        reason = one_line(error, 80)
        raise UserError(f"{place}: truncated or damaged {kind} ({reason})") from None


def kind_of(path, place):
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise UserError(f"{place}: neither a file nor a folder")
    with open(path, "rb") as file:
        head = file.read(512)
    refuse_stand_in(head, place)
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    try:
        if tarfile.is_tarfile(path):
            return "tar"
    except DAMAGED:
        pass  # packed, and cut before a tar's first member would end
    for kind, (start, _) in PACKED.items():
        if head.startswith(start):
            return kind
    if b"\0" in head:
        raise UserError(f"{place}: neither a folder, a zip, a tar nor a CSV")
    return "file"


def refuse_stand_in(head, place):
    """What is often found in place of data."""
    if not head:
        raise UserError(f"{place}: is empty (0 bytes)")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{place}: is a git-lfs pointer: run git lfs pull")
    if re.match(rb"\s*(<!doctype|<html|<\?xml)", head, re.IGNORECASE):
        raise UserError(f"{place}: is a web page, not data")


def read_binary(path):
    return open(path, "rb")


def in_threads(function, items):
    """Yield function(*item) of each item, in order; THREADS threads work, items are read meanwhile.

    The items are taken in this thread, and only a few ahead. The first error, in order, is raised.
    """
    waiting = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) == 3 * THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Limited(io.RawIOBase):
    """What `file` holds, up to `most` bytes; UserError(`refusal`) beyond."""

    def __init__(self, file, most, refusal):
        self.file, self.left, self.refusal = file, most, refusal

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


def unpacked(path, kind, place):
    """The content of a file that is packed alone, binary; no size is told before it is read."""
    most = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))
    refusal = f"{place}: refused, it unpacks to more than {most >> 20} MiB"
    return io.BufferedReader(Limited(PACKED[kind][1](path), most, refusal), 1 << 17)


def zip_opener(archive):
    """What opens a member of a zipfile.ZipFile.

    zipfile takes longer to open a small member than to unpack it. Here it is read in one piece,
    where its header, size and checksum are what they should be; zipfile has the word on any other.
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
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    start, length = info.header_offset, 30 + len(name) + info.compress_size
    if start < 0 or info.flag_bits & ~0x80E:  # all but: deflate's level, sizes told later, UTF-8
        return None
    file.seek(start)
    head = file.read(length + len(info.extra) + 64)  # the directory's extra field may be another
    if len(head) < 30 or head[:4] != b"PK\3\4" or head[30 : 30 + len(name)] != name:
        return None
    name_size, extra_size = struct.unpack_from("<HH", head, 26)
    length += extra_size
    if name_size != len(name) or length > len(head) or start + length > end:
        return None
    packed = head[length - info.compress_size : length]
    try:
        if info.compress_type == zipfile.ZIP_DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflate.decompress(packed, info.file_size + 1)
        else:
            content = packed if info.compress_type == zipfile.ZIP_STORED else b""
    except zlib.error:
        return None
    return content if len(content) == info.file_size and zlib.crc32(content) == info.CRC else None


def walk(top, place):
    """The entries of a folder. Links are followed: a folder, unlike an archive, is the user's own."""

    def refuse(error):
        raise UserError(f"{place}: {error.filename}: {error.strerror.lower()}")

    for folder, folders, names in os.walk(top, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in folders:
            yield os.path.relpath(os.path.join(folder, name), top), "folder", 0, None
        for name in sorted(names):
            full = Path(folder, name)
            yield (
                os.path.relpath(full, top),
                "file" if full.is_file() else "link or device",
                0,
                full,
            )


def zip_kind(info):
    if info.flag_bits & 1:
        return "encrypted file"
    mode = stat.S_IFMT(info.external_attr >> 16)
    return (
        "folder"
        if info.filename.endswith("/")
        else "file"
        if mode in (0, stat.S_IFREG)
        else "link or device"
    )


def tar_kind(info):
    return "folder" if info.isdir() else "file" if info.isreg() else "link or device"


def is_junk(part):
    return part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini")


def checked(entries, packed, place):
    """(files, folders) of the entries (name, kind, size, handle), or an error for what no honest archive holds."""
    files, folders, names, total = [], set(), set(), 0
    for count, (name, kind, size, handle) in enumerate(entries, 1):
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        if name[:1] in ("/", "\\") or name[1:2] == ":" or ".." in parts or not name.isprintable():
            raise UserError(
                f"{place}: refused, the member {name!a} points outside or has odd characters"
            )
        total += size
        if count > MAX_MEMBERS:
            raise UserError(f"{place}: refused, more than {MAX_MEMBERS} files")
        if total > MAX_BYTES or packed and total > FREE_BYTES and total > MAX_RATIO * packed:
            raise UserError(f"{place}: refused, it unpacks to more than {total >> 20} MiB")
        if any(map(is_junk, parts)) or not parts:
            continue
        if kind not in ("file", "folder"):
            raise UserError(f"{place}: refused, the member {name} is a {kind}")
        if kind == "file" and parts in names:
            raise UserError(f"{place}: refused, it holds the member {name} twice")
        names.add(parts)
        folders.add(parts) if kind == "folder" else files.append((parts, handle))
    return files, folders
