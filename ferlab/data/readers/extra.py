"""Further labelled faces that a trained model is evaluated on: no splits, any image size, gray or
colour, other spellings.

What cannot be used (an unknown class such as contempt, a damaged image) is left out, counted and
named. Frames of one film, or photos of one person, can be told to belong together: then the
interval of the accuracy counts groups, not images.
"""

import csv
import io
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path

import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.readers import csv_rows, images
from ferlab.data.readers.archives import local_path, opened
from ferlab.data.readers.spellings import CLASS_OF
from ferlab.files import UserError, root
from ferlab.progress import counted
from ferlab.secrets import masked

CK48_COUNTS = {"angry": 135, "disgust": 177, "fear": 75, "happy": 207, "sad": 84, "surprise": 249}
CK48_GROUP = r"S\d+_\d+"  # person and film of S010_004_00000017.png: three frames of each of 309


@dataclass(frozen=True)
class Faces:
    """One such set.

    faces: uint8 (N, 48, 48). ids, labels, groups: lists of N texts; the group is empty where none
    is known. left_out: {reason: images}.
    """

    name: str
    faces: np.ndarray
    ids: list
    labels: list
    groups: list
    left_out: dict


def read(entry, classes=CLASSES):
    """The Faces of one entry of `evaluate.extra_datasets`, of FER2013's classes and these.

    entry: `ck48` (CK+ at 48x48, where $CK48 says), or the path of class folders (zipped or not) or
    of a CSV, or {"path": such a path, "group": a regular expression}: what it finds in an image's
    path, or its first parentheses there, is the image's group. In a CSV the column `group` says it.
    Raises UserError where it holds no usable image, where `ck48` is something else, or where an
    image's path has no group.
    """
    if isinstance(entry, str):
        entry = {"path": entry, "group": CK48_GROUP if entry == "ck48" else ""}
    is_ck48 = entry["path"] == "ck48"
    place = os.environ.get("CK48") if is_ck48 else entry["path"]
    if not place:
        raise UserError(
            "evaluate.extra_datasets: ck48 needs a copy of CK+ (48x48); "
            "name it: CK48=<file> dvc repro"
        )
    shown = masked(f"CK48={place}" if is_ck48 else f"evaluate.extra_datasets: {place}")
    if "://" in place:
        raise UserError(f"{shown}: is an address; download it and name the file")
    words = CLASS_OF | {name.lower(): name for name in classes}
    rows, left_out = _read_rows(place, shown, words)
    if not rows:
        why = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "no images at all"
        expected = f"expected folders or labels named {', '.join(classes)}"
        raise UserError(f"{shown}: no usable image ({why}); {expected}")
    ids, labels, faces, groups = (list(column) for column in zip(*rows, strict=True))
    if is_ck48:
        _check_ck48(Counter(labels), shown)
    if entry["group"]:
        groups = [_group_of(id, entry["group"], shown) for id in ids]
    name = entry["path"] if is_ck48 else Path(place).stem
    return Faces(name, np.stack(faces), ids, labels, groups, dict(sorted(left_out.items())))


def checked(entry):
    """A mapping entry of `evaluate.extra_datasets`; ValueError where it is not {path, group}."""
    if set(entry) != {"path", "group"} or not all(entry.values()):
        raise ValueError(
            f"{', '.join(entry) or '{}'}: expected path and group, nothing else, not empty"
        )
    try:
        re.compile(entry["group"])
    except re.error as error:
        raise ValueError(f"group {entry['group']!a} is no regular expression ({error})") from None
    return entry


def _group_of(id, pattern, shown):
    """What a regular expression finds in an image's path."""
    found = re.search(pattern, id)
    group = found and found.group(1 if found.re.groups else 0)
    if not group:
        raise UserError(
            f"{shown}: group {pattern!a} finds nothing in {id}; change it, or leave it out "
            "(of a CSV, the column `group` says it)"
        )
    return group


def _read_rows(place, shown, words):
    """([(id, label, face, group)] of the usable images by id, Counter of what is left out).

    words: the class that a folder's name or a label, in lower case, means.
    """
    left_out = Counter()
    with opened(root() / local_path(place), shown) as (kind, files, _, open_member):
        named = [item for item in files if _is_meant(item[0], words)]
        in_folders = any(len(parts) > 1 and parts[-2].lower() in words for parts, _ in named)
        # a picture beside a CSV may be a preview of it
        if named and (in_folders or not csv_rows.has_faces_in_a_csv(files, open_member)):
            rows = list(_images(named, open_member, left_out, shown, words))
        else:
            name, handle, _ = csv_rows.choose_csv(kind, files, open_member, shown)
            where = shown if kind == "file" else f"{shown}: {name}"
            rows = list(_rows(partial(open_member, handle), left_out, where, words))
    return sorted(rows, key=lambda row: row[0]), left_out


def _is_meant(parts, words):
    """Whether a file is meant as a face: it is named as a picture, or lies in a class folder."""
    return images.is_named_as_one(parts[-1]) or len(parts) > 1 and parts[-2].lower() in words


def _check_ck48(counts, shown):
    if counts != CK48_COUNTS:
        wrong = next(name for name in CLASSES if counts[name] != CK48_COUNTS.get(name, 0))
        raise UserError(
            f"{shown}: not CK+ (48x48): {wrong} has {counted(counts[wrong], 'image')}, "
            f"CK+ {CK48_COUNTS.get(wrong, 0)}"
        )


def _images(named, open_member, left_out, shown, words):
    """(id, label, face, "") of each usable image: its class is the nearest folder's name."""
    for parts, handle in named:
        label = words.get(parts[-2].lower()) if len(parts) > 1 else None
        if not label:
            in_folder = len(parts) > 1
            reason = f"of the unknown class {parts[-2]}" if in_folder else "in no class folder"
            left_out[reason] += 1
            continue
        try:
            with open_member(handle) as file:
                face, *_ = images.read(file.read(), f"{shown}: {'/'.join(parts)}")
        except UserError:
            ending = Path(parts[-1]).suffix.lower()
            unread = f"of no kind that is read ({ending or 'no ending'})"
            left_out["damaged" if ending in images.NAMES else unread] += 1
            continue
        yield "/".join(parts), label, face, ""


def _rows(reopen, left_out, shown, words):
    """(id, label, face, group) of each usable row of a CSV.

    `emotion` is FER2013's code or a name, `pixels` a square of gray values of any side; `group`,
    which may be missing, names what the image belongs to.
    """
    with reopen() as file:
        columns = csv_rows.columns_of(file.read(4096))
    csv_rows.column_indices(columns, shown)
    with reopen() as file, io.TextIOWrapper(file, "utf-8-sig", "replace", newline="") as text:
        reader = csv_rows.rows_of(text, shown)
        try:
            next(reader)
            for number, row in enumerate(filter(None, reader), 1):
                values = dict(zip(columns, row, strict=False))
                word, face = values.get("emotion", "").strip(), _face(values.get("pixels", ""))
                label = words.get(word.lower()) or csv_rows.label_of(word)
                if not label:
                    left_out[f"of the unknown class {word or '(empty)'}"] += 1
                elif face is None:
                    left_out["damaged"] += 1
                else:
                    yield f"row {number:06}", label, face, values.get("group", "").strip()
        except csv.Error as error:
            raise UserError(f"{shown}, line {reader.line_num}: {error}") from None


def _face(text):
    """uint8 (48, 48) of gray values separated by blanks, None where they are not a square."""
    values = len(text.split())
    side = isqrt(values)
    if not side or side * side != values:
        return None
    try:
        return csv_rows.resized(csv_rows.parse_pixels(text, values, ""), side)[0]
    except UserError:
        return None
