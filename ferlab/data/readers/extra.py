"""Further labelled faces that a trained model is judged on: no splits, any image size, gray or colour, other spellings.

What cannot be used (an unknown class such as contempt, a damaged image) is left out, counted and named.
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
from ferlab.data.readers.archives import opened
from ferlab.data.readers.csv_faces import CSV_CODES, columns_of
from ferlab.data.readers.images import NAMES
from ferlab.data.readers.sources import CLASS_OF, at_home, read_image
from ferlab.files import UserError, root

CK48_COUNTS = {"angry": 135, "disgust": 177, "fear": 75, "happy": 207, "sad": 84, "surprise": 249}


@dataclass(frozen=True)
class Faces:
    """One such set. faces: uint8 (N, 48, 48). ids, labels: texts. left_out: {reason: images}. read: images in all."""

    name: str
    faces: np.ndarray
    ids: list
    labels: list
    left_out: dict


def read(entry):
    """The Faces of one entry of `evaluate.extra_datasets`: `ck48`, or the path of class folders (zipped or not) or of a CSV."""
    known = entry == "ck48"
    place = os.environ.get("CK48") if known else entry
    if not place:
        raise UserError(
            "evaluate.extra_datasets: ck48 needs a copy of CK+ (48x48); name it: CK48=<file> dvc repro"
        )
    shown = f"CK48={place}" if known else f"evaluate.extra_datasets: {place}"
    left_out, rows = Counter(), []
    with opened(root() / at_home(place), shown) as (kind, files, _, open_member):
        pictures = [(parts, handle) for parts, handle in files if parts[-1].lower().endswith(NAMES)]
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
    rows.sort(key=lambda row: row[0])
    if not rows:
        why = ", ".join(f"{n} {reason}" for reason, n in left_out.items()) or "no images at all"
        raise UserError(
            f"{shown}: no usable image ({why}); expected folders or labels named {', '.join(CLASSES)}"
        )
    ids, labels, faces = (list(column) for column in zip(*rows, strict=True))
    found = Counter(labels)
    if known and found != CK48_COUNTS:
        wrong = next(name for name in CLASSES if found.get(name, 0) != CK48_COUNTS.get(name, 0))
        raise UserError(
            f"{shown}: not CK+ (48x48): {wrong} has {found.get(wrong, 0)} images, CK+ {CK48_COUNTS.get(wrong, 0)}"
        )
    return Faces(
        entry if known else Path(place).stem,
        np.stack(faces),
        ids,
        labels,
        dict(sorted(left_out.items())),
    )


def _images(pictures, open_member, left_out, shown):
    """(id, label, face) of each usable image: its class is the nearest folder's name."""
    for parts, handle in pictures:
        label = CLASS_OF.get(parts[-2].lower()) if len(parts) > 1 else None
        if not label:
            left_out[
                f"of the unknown class {parts[-2]}" if len(parts) > 1 else "in no class folder"
            ] += 1
            continue
        try:
            with open_member(handle) as file:
                face, *_ = read_image(file.read(), f"{shown}: {'/'.join(parts)}")
        except UserError:
            left_out["damaged"] += 1
            continue
        yield "/".join(parts), label, face


def _rows(content, left_out, shown):
    """(id, label, face) of each usable row: `emotion` is FER2013's code or a name, `pixels` a square of gray values."""
    columns = columns_of(content)
    if not {"emotion", "pixels"} <= set(columns):
        raise UserError(
            f"{shown}: no columns emotion and pixels (found: {', '.join(columns)[:60]!a})"
        )
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="replace", newline="")
    )
    next(reader)
    for number, row in enumerate(reader, 1):
        values = dict(zip(columns, row, strict=False))
        emotion = values.get("emotion", "").strip().lower()
        label = CSV_CODES[int(emotion)] if emotion in set("0123456") else CLASS_OF.get(emotion)
        try:
            pixels = np.array(values.get("pixels", "").split(), int)
        except (ValueError, OverflowError):
            pixels = np.array([-1])
        side = int(len(pixels) ** 0.5)
        if not label:
            left_out[f"of the unknown class {emotion or '(empty)'}"] += 1
        elif not side or side * side != len(pixels) or (pixels & ~255).any():
            left_out["damaged"] += 1
        else:
            face = pixels.astype(np.uint8).reshape(side, side)
            yield (
                f"row {number:06}",
                label,
                cv2.resize(face, (SIZE, SIZE), interpolation=cv2.INTER_AREA),
            )
