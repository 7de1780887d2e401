"""Further labelled faces that a trained model is evaluated on: no splits, any image size, gray or
colour, other spellings.

What cannot be used (an unknown class such as contempt, a damaged image) is left out, counted and
named.
"""

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE
from ferlab.data.readers import images
from ferlab.data.readers.archives import local_path, opened
from ferlab.data.readers.csv_rows import columns_of
from ferlab.data.readers.spellings import CLASS_OF, CSV_CODES
from ferlab.files import UserError, root
from ferlab.secrets import masked

CK48_COUNTS = {"angry": 135, "disgust": 177, "fear": 75, "happy": 207, "sad": 84, "surprise": 249}


@dataclass(frozen=True)
class Faces:
    """One such set.

    faces: uint8 (N, 48, 48). ids, labels: lists of N texts. left_out: {reason: images}.
    """

    name: str
    faces: np.ndarray
    ids: list
    labels: list
    left_out: dict


def read(entry):
    """The Faces of one entry of `evaluate.extra_datasets`.

    entry: `ck48` (CK+ at 48x48, where $CK48 says), or the path of class folders (zipped or not) or
    of a CSV. Raises UserError where it holds no usable image, or where `ck48` is something else.
    """
    is_ck48 = entry == "ck48"
    place = os.environ.get("CK48") if is_ck48 else entry
    if not place:
        raise UserError(
            "evaluate.extra_datasets: ck48 needs a copy of CK+ (48x48); "
            "name it: CK48=<file> dvc repro"
        )
    shown = masked(f"CK48={place}" if is_ck48 else f"evaluate.extra_datasets: {place}")
    if "://" in place:
        raise UserError(f"{shown}: is an address; download it and name the file")
    rows, left_out = _read_rows(place, shown)
    if not rows:
        why = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "no images at all"
        expected = f"expected folders or labels named {', '.join(CLASSES)}"
        raise UserError(f"{shown}: no usable image ({why}); {expected}")
    ids, labels, faces = (list(column) for column in zip(*rows, strict=True))
    if is_ck48:
        _check_ck48(Counter(labels), shown)
    name = entry if is_ck48 else Path(place).stem
    return Faces(name, np.stack(faces), ids, labels, dict(sorted(left_out.items())))


def _read_rows(place, shown):
    """([(id, label, face)] of the usable images by id, Counter of what is left out)."""
    left_out = Counter()
    with opened(root() / local_path(place), shown) as (kind, files, _, open_member):
        pictures = [item for item in files if item[0][-1].lower().endswith(images.NAMES)]
        if pictures:
            rows = list(_images(pictures, open_member, left_out, shown))
        else:
            tables = [
                handle
                for parts, handle in files
                if kind == "file" or parts[-1].lower().endswith(".csv")
            ]
            if len(tables) != 1:
                raise UserError(f"{shown}: holds neither images in class folders nor one CSV")
            with open_member(tables[0]) as file:
                rows = list(_rows(file.read(), left_out, shown))
    return sorted(rows, key=lambda row: row[0]), left_out


def _check_ck48(counts, shown):
    if counts != CK48_COUNTS:
        wrong = next(name for name in CLASSES if counts[name] != CK48_COUNTS.get(name, 0))
        raise UserError(
            f"{shown}: not CK+ (48x48): {wrong} has {counts[wrong]} images, "
            f"CK+ {CK48_COUNTS.get(wrong, 0)}"
        )


def _images(pictures, open_member, left_out, shown):
    """(id, label, face) of each usable image: its class is the nearest folder's name."""
    for parts, handle in pictures:
        label = CLASS_OF.get(parts[-2].lower()) if len(parts) > 1 else None
        if not label:
            in_folder = len(parts) > 1
            reason = f"of the unknown class {parts[-2]}" if in_folder else "in no class folder"
            left_out[reason] += 1
            continue
        try:
            with open_member(handle) as file:
                face, *_ = images.read(file.read(), f"{shown}: {'/'.join(parts)}")
        except UserError:
            left_out["damaged"] += 1
            continue
        yield "/".join(parts), label, face


def _rows(content, left_out, shown):
    """(id, label, face) of each usable row of a CSV's bytes.

    `emotion` is FER2013's code or a name, `pixels` a square of gray values of any side.
    """
    columns = columns_of(content)
    if not {"emotion", "pixels"} <= set(columns):
        header = ", ".join(columns)[:60]
        raise UserError(f"{shown}: no columns emotion and pixels (found: {header!a})")
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="replace", newline="")
    reader = csv.reader(text)
    next(reader)
    for number, row in enumerate(reader, 1):
        values = dict(zip(columns, row, strict=False))
        emotion = values.get("emotion", "").strip().lower()
        label = CSV_CODES[int(emotion)] if emotion in set("0123456") else CLASS_OF.get(emotion)
        face = _square(values.get("pixels", ""))
        if not label:
            left_out[f"of the unknown class {emotion or '(empty)'}"] += 1
        elif face is None:
            left_out["damaged"] += 1
        else:
            small = cv2.resize(face, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            yield f"row {number:06}", label, small


def _square(text):
    """uint8 (side, side) of gray values separated by blanks, None where they are not a square."""
    try:
        pixels = np.array(text.split(), int)
    except (ValueError, OverflowError):
        return None
    side = int(len(pixels) ** 0.5)
    if not side or side * side != len(pixels) or (pixels & ~255).any():
        return None
    return pixels.astype(np.uint8).reshape(side, side)
