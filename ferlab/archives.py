"""Containers: a folder, a zip, a tar and a single file all become a list of (parts of the name, handle) to read from.

Nothing is unpacked to disk; what no honest archive holds (outside paths, links, bombs) is refused before it is read.
"""

import errno
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from ferlab.files import UserError

MOST_MEMBERS, MOST_BYTES = 200_000, 4 << 30
# Real data packs to a third at best; small archives are free to do better, since they cannot fill anything.
MOST_RATIO, FREE_BYTES = 200, 64 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, struct.error,
           NotImplementedError, OverflowError, UnicodeDecodeError)


@contextmanager
def opened(path, place):
    """Yield the kind, files as [(name's parts, handle)], folders as a set of parts, and what opens a handle."""
    if not path.exists():
        raise UserError(f"{place}: not found" + ("" if path.is_absolute() and str(path) == place else f" ({path})"))
    kind = kind_of(path, place)
    try:
        if kind == "folder":
            yield kind, *checked(walk(path, place), None, place), read_binary
        elif kind == "zip":
            with zipfile.ZipFile(path) as archive:
                entries = ((i.filename, zip_kind(i), i.file_size, i) for i in archive.infolist())
                yield kind, *checked(entries, path.stat().st_size, place), archive.open
        elif kind == "tar":
            with tarfile.open(path) as archive:
                entries = ((m.name, tar_kind(m), m.size, m) for m in archive)
                files, folders = checked(entries, path.stat().st_size, place)
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(512) != bytes(512):  # tarfile takes a cut between two members for the end
                    raise tarfile.ReadError("no end mark")
                yield kind, files, folders, archive.extractfile
        else:
            yield kind, [((path.name,), path)], set(), read_binary
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # a full disk, no permission; damage has no number, or comes from a seek to nowhere
        reason = " ".join(str(error).split())[:80]
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
    if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head[:6] == b"\xfd7zXZ\0" or tarfile.is_tarfile(path):
        return "tar"
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
            yield os.path.relpath(full, top), "file" if full.is_file() else "link or device", 0, full


def zip_kind(info):
    if info.flag_bits & 1:
        return "encrypted file"
    mode = stat.S_IFMT(info.external_attr >> 16)
    return "folder" if info.filename.endswith("/") else "file" if mode in (0, stat.S_IFREG) else "link or device"


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
            raise UserError(f"{place}: refused, the member {name!a} points outside or has odd characters")
        total += size
        if count > MOST_MEMBERS:
            raise UserError(f"{place}: refused, more than {MOST_MEMBERS} files")
        if total > MOST_BYTES or packed and total > FREE_BYTES and total > MOST_RATIO * packed:
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
