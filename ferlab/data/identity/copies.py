"""`python -m ferlab identify <path>`: what any copy of FER2013 is, in a table or as JSON.

Reads more than the pipeline does: no splits, other class names, other sizes. Nothing is refused but
what cannot be read.
"""

from functools import partial

import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.data.identity import description, fingerprints, identify
from ferlab.data.readers import class_folders, csv_faces, csv_rows, images
from ferlab.data.readers.archives import local_path, opened
from ferlab.data.readers.spellings import CLASS_OF, CSV_CODES, OFFICIAL, SPLIT_OF
from ferlab.data.threads import in_threads
from ferlab.files import UserError

FERPLUS_FOLDERS = {"fer2013train": "train", "fer2013valid": "public", "fer2013test": "private"}
FEW = 100  # pictures beside a CSV: they only illustrate it
CODE_OF = {str(code): name for code, name in enumerate(CSV_CODES)}  # class folders named 0 to 6


def copy(path, known=None):
    """description.describe's dict of the copy at `path`.

    Raises UserError where it holds too few official images to be one.
    """
    known = known or fingerprints.read()
    faces, labels, splits, resized, coloured = read(path)
    match = identify.match(faces, labels, splits, known, resized, coloured)
    identity = description.describe(match, labels, splits, known)
    if not description.is_copy(identity):
        n, official = identity["known"], identity["official"]
        raise UserError(f"{path}: no copy of FER2013: {n:,} of {official:,} known")
    return identity


def read(path):
    """(faces, labels, splits, resized, coloured) of any copy at `path`.

    faces: uint8 (N, 48, 48). labels: object (N,), class names, or the folder's own name where it
    is none; "" where there is none. splits: object (N,), of SPLITS, or "". resized, coloured: bool
    (N,).
    """
    place = str(path)
    with opened(local_path(path), place) as (kind, files, _, open_member):
        pictures = [item for item in files if item[0][-1].lower().endswith(images.NAMES)]
        if not pictures or len(pictures) < FEW and csv_rows.has_faces_in_a_csv(files, open_member):
            return _read_csv(kind, files, open_member, place)
        return _read_pictures(pictures, open_member, place)


def _read_csv(kind, files, open_member, place):
    """What `read` gives, of a CSV among the files."""
    name, handle, _ = csv_rows.choose_csv(kind, files, open_member, place)
    where = place if kind == "file" else f"{place}: {name}"
    (faces, _, labels, splits, _), notes = csv_faces.read_csv(partial(open_member, handle), where)
    resized, gray = np.full(len(faces), bool(notes["resized"])), np.zeros(len(faces), bool)
    with open_member(handle) as file:
        if "usage" not in csv_rows.columns_of(file.read(4096)):
            splits = [""] * len(faces)
    return faces, np.array(labels, object), np.array(splits, object), resized, gray


def _read_pictures(pictures, open_member, place):
    """What `read` gives, of image files [(parts, handle)]."""
    named = [("/".join(parts), handle) for parts, handle in pictures]
    pieces = class_folders.pieces(named, open_member, place)
    rows = [row for piece in in_threads(class_folders.decode_piece, pieces) for row in piece]
    faces, sizes, coloured = zip(*rows, strict=True)
    resized = np.array([size != (SIZE, SIZE) for size in sizes])
    labels, splits = zip(*(_label_and_split(parts) for parts, _ in pictures), strict=True)
    labels, splits = np.array(labels, object), np.array(splits, object)
    return np.stack(faces), labels, splits, resized, np.array(coloured)


def _label_and_split(parts):
    """(label, split) by a file's folders and name, the innermost that says one."""
    folders, (prefix, _, number) = [part.lower() for part in parts[:-1]], parts[-1].partition("_")
    splits = [SPLIT_OF.get(part) or FERPLUS_FOLDERS.get(part) for part in folders]
    split = next((split for split in reversed(splits) if split), "")
    official = OFFICIAL.get(prefix) if number else None
    if official and split in ("", "test") and not (split == "test" and official == "train"):
        split = official
    classes = [CLASS_OF.get(part) or CODE_OF.get(part) for part in folders]
    label = next((label for label in reversed(classes) if label), "")
    if not label and folders and not splits[-1]:
        label = parts[-2]
    return label, split
