"""`python -m ferlab identify <path>`: what any copy of FER2013 is, in a table or as JSON.

Reads more than the pipeline does: no splits, other class names, other sizes. Nothing is refused but what cannot be read.
"""

from functools import partial

import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.data.identity import fingerprints, identify
from ferlab.data.readers import csv_faces, images, sources
from ferlab.data.readers.archives import in_threads, opened
from ferlab.files import UserError

FERPLUS_FOLDERS = {"fer2013train": "train", "fer2013valid": "public", "fer2013test": "private"}
FEW = 100  # pictures beside a CSV: they only illustrate it
CODE_OF = {
    str(code): name for code, name in enumerate(csv_faces.CSV_CODES)
}  # class folders named 0 to 6


def read(path):
    """(faces uint8 (N, 48, 48), labels, splits, resized, coloured), the last four arrays (N,), of any copy at `path`.

    labels: class names, or the folder's own name where it is none; "" where there is none. splits: of SPLITS, or "".
    """
    place = str(path)
    with opened(sources.at_home(path), place) as (kind, files, _, open_member):
        pictures = [
            (parts, handle) for parts, handle in files if parts[-1].lower().endswith(images.NAMES)
        ]
        if not pictures or len(pictures) < FEW and _has_faces_in_a_csv(files, open_member):
            name, handle = sources.choose_csv(kind, files, open_member, place, {})
            where = place if kind == "file" else f"{place}: {name}"
            faces, _, labels, splits, _ = csv_faces.read_csv(partial(open_member, handle), where)
            nothing = np.zeros(len(faces), bool)
            with open_member(handle) as file:
                if "usage" not in csv_faces.columns_of(file.read(4096)):
                    splits = [""] * len(faces)
            return faces, np.array(labels, object), np.array(splits, object), nothing, nothing
        named = [("/".join(parts), handle) for parts, handle in pictures]
        rows = [
            row
            for piece in in_threads(sources.read_pieces, sources.pieces(named, open_member, place))
            for row in piece
        ]
    faces, sizes, coloured = zip(*rows, strict=True)
    resized = np.array([size != (SIZE, SIZE) for size in sizes])
    labels, splits = zip(*(_named(parts) for parts, _ in pictures), strict=True)
    return (
        np.stack(faces),
        np.array(labels, object),
        np.array(splits, object),
        resized,
        np.array(coloured),
    )


def _has_faces_in_a_csv(files, open_member):
    for parts, handle in files:
        if parts[-1].lower().endswith(".csv"):
            with open_member(handle) as file:
                if "pixels" in csv_faces.columns_of(file.read(4096)):
                    return True
    return False


def _named(parts):
    """(label, split) that a file's folders and name tell."""
    folders, (prefix, _, number) = [part.lower() for part in parts[:-1]], parts[-1].partition("_")
    splits = [csv_faces.SPLIT_OF.get(part) or FERPLUS_FOLDERS.get(part) for part in folders]
    split = next((split for split in reversed(splits) if split), "")
    official = csv_faces.OFFICIAL.get(prefix) if number else None
    if official and split in ("", "test") and not (split == "test" and official == "train"):
        split = official
    classes = [sources.CLASS_OF.get(part) or CODE_OF.get(part) for part in folders]
    label = next((label for label in reversed(classes) if label), "")
    if not label and folders and not splits[-1]:
        label = parts[-2]
    return label, split


def table(found):
    """identify.describe's dict as text."""
    shown = [
        *found["summary"],
        "",
        "what was done to them",
        *(f"  {kind:<24}{n:>8,}" for kind, n in found["changes"].items()),
        f"  {'foreign':<24}{found['foreign']:>8,}",
    ]
    for what in ("splits", "labels"):
        rows = found[what]
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        columns.sort(
            key=lambda name: (
                identify.SPLITS.index(name) if name in identify.SPLITS else len(identify.SPLITS),
                name,
            )
        )
        if rows and columns != [""]:
            heads = [name or "(none)" for name in columns]
            width = max(9, *(len(head) + 2 for head in heads))
            shown += [
                "",
                f"{what}: official (rows) and here (columns)",
                " " * 12 + "".join(f"{head:>{width}}" for head in heads),
            ]
            shown += [
                f"  {name:<10}" + "".join(f"{row.get(column, 0):>{width},}" for column in columns)
                for name, row in rows.items()
            ]
    return "\n".join(shown)


def copy(path, known=None):
    """identify.describe's dict of the copy at `path`. Raises UserError where it holds too few official images to be one."""
    known = known or fingerprints.read()
    faces, labels, splits, resized, coloured = read(path)
    match = identify.match(faces, labels, splits, known, resized, coloured)
    found = identify.describe(match, labels, splits, known)
    if not identify.is_copy(found):
        raise UserError(
            f"{path}: no copy of FER2013: {found['known']:,} of {found['official']:,} known"
        )
    return found
