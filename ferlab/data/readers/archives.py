"""Containers: folders, zips, tars and single files, as (parts of the name, handle) to read from.

Nothing is unpacked to disk. What no honest archive holds (paths outside, links, bombs) is refused
before it is read.
"""

import errno
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ferlab.data.readers.members import (
    FREE_BYTES,
    MAX_BYTES,
    MAX_RATIO,
    PACKED,
    SMALL,
    binary,
    unpacked,
    zip_opener,
)
from ferlab.files import UserError, one_line

MAX_MEMBERS = 200_000  # of an archive
# How files begin that others pack and nothing here unpacks.
PACKERS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
}
TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
DAMAGED = (  # what the standard library's readers raise on damaged files
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
    """Yield (kind, files, folders, open_member) of what is at `path`; `place` is its name in
    errors.

    kind: "folder", "zip", "tar", one of PACKED, or "file". files: [(the name's parts, handle)].
    folders: a set of parts. open_member(handle): the file, binary. Raises UserError for anything
    damaged, also while the caller reads members.
    """
    if not path.exists():
        shown = "" if path.is_absolute() and str(path) == place else f" ({path})"
        raise UserError(f"{place}: not found{shown}")
    kind = _kind_of(path, place)
    try:
        if kind == "zip":
            with open(path, "rb", SMALL) as file, zipfile.ZipFile(file) as archive:
                yield kind, *_zip_members(archive, path, place), zip_opener(archive)
        elif kind == "tar":
            with tarfile.open(path) as archive:
                yield kind, *_tar_members(archive, path, place), archive.extractfile
        elif kind == "folder":
            yield kind, *_checked(_walk(path, place), None, place), binary
        elif kind in PACKED:
            name = path.stem if path.suffix.lower() == f".{kind}" else path.name
            yield kind, [((name,), path)], set(), partial(unpacked, kind=kind, place=place)
        else:
            yield kind, [((path.name,), path)], set(), binary
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # full disk, no permission; damage has no number, or comes from a seek to nowhere
        reason = one_line(error, 80)
        raise UserError(f"{place}: truncated or damaged {kind} ({reason})") from None


def local_path(path):
    """The Path, with ~ for the home folder; of somebody who has no home folder here, as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def refuse_stand_in(head, place):
    """Raise UserError where a file's first bytes are of what is often found in place of data."""
    if not head:
        raise UserError(f"{place}: is empty (0 bytes)")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{place}: is a git-lfs pointer: run git lfs pull")
    if re.match(rb"\s*(<!doctype|<html|<\?xml)", head, re.IGNORECASE):
        raise UserError(f"{place}: is a web page, not data")


def _kind_of(path, place):
    """What `path` is, by content: see `opened`."""
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
    packer = next((name for start, name in PACKERS.items() if head.startswith(start)), None)
    if packer:
        raise UserError(
            f"{place}: is packed by {packer}, which is not read; unpack it, or pack a zip"
        )
    if b"\0" in head:
        raise UserError(f"{place}: neither a folder, a zip, a tar nor a CSV")
    return "file"


def _zip_members(archive, path, place):
    entries = ((i.filename, _zip_kind(i), i.file_size, i) for i in archive.infolist())
    return _checked(entries, path.stat().st_size, place)


def _zip_kind(info):
    if info.flag_bits & 1:
        return "an encrypted file"
    if info.filename.endswith("/"):
        return "folder"
    mode = stat.S_IFMT(info.external_attr >> 16)
    return "file" if mode in (0, stat.S_IFREG) else "a link or device"


def _tar_members(archive, path, place):
    entries = ((m.name, _tar_kind(m), m.size, m) for m in archive)
    members = _checked(entries, path.stat().st_size, place)
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(512) != bytes(512):
        raise tarfile.ReadError(
            "no end mark"
        )  # tarfile takes a cut between two members for the end
    return members


def _tar_kind(info):
    return "folder" if info.isdir() else "file" if info.isreg() else "a link or device"


def _walk(top, place):
    """The entries of a folder. Links are followed: a folder, unlike an archive, is the user's
    own."""

    def refuse(error):
        raise UserError(f"{place}: {error.filename}: {error.strerror.lower()}")

    for folder, folders, names in os.walk(top, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in folders:
            full = Path(folder, name)
            if full.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(full.resolve()):
                raise UserError(f"{place}: {full}: a link to a folder above it; remove it")
            yield os.path.relpath(full, top), "folder", 0, None
        for name in sorted(names):
            full = Path(folder, name)
            kind = "file" if full.is_file() else "a link or device"
            yield os.path.relpath(full, top), kind, 0, full


def is_junk(part):
    """Whether a name is of what operating systems leave behind."""
    return part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _checked(entries, packed, place):
    """(files, folders) of the entries (name, kind, size, handle).

    packed: bytes of the archive, None of a folder. Raises UserError for what no honest archive
    holds.
    """
    files, folders, names, total = [], set(), set(), 0
    for count, (name, kind, size, handle) in enumerate(entries, 1):
        parts = _parts_of(name, place)
        total += size
        if packed is not None and count > MAX_MEMBERS:
            raise UserError(
                f"{place}: refused, more than {MAX_MEMBERS} files; unpack it and name the folder"
            )
        if total > MAX_BYTES or packed and total > FREE_BYTES and total > MAX_RATIO * packed:
            raise UserError(f"{place}: refused, it unpacks to more than {total >> 20} MiB")
        if any(map(is_junk, parts)) or not parts:
            continue
        if kind not in ("file", "folder"):
            raise UserError(f"{place}: refused, the member {name} is {kind}")
        if kind == "file" and parts in names:
            raise UserError(f"{place}: refused, it holds the member {name} twice")
        names.add(parts)
        folders.add(parts) if kind == "folder" else files.append((parts, handle))
    return files, folders


def _parts_of(name, place):
    """A member's name as a tuple of folders and file; UserError where it leads outside."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if name[:1] in ("/", "\\") or name[1:2] == ":" or ".." in parts:
        raise UserError(f"{place}: refused, the member {name!a} points outside")
    if not is_plain(name):
        raise UserError(f"{place}: refused, the member {name!a} has odd characters; rename it")
    return parts


def is_plain(name):
    """Whether a name holds nothing odd: blanks of any width, as macOS writes them, and what joins
    emoji are fine; line ends, control characters and what turns the direction of text are not."""
    if name.isprintable():
        return True
    kinds = set(map(unicodedata.category, name))
    return not kinds & {"Cc", "Cs", "Zl", "Zp"} and not set(name) & set(TURNS)
