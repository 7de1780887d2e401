"""`python -m ferlab identify <path>`: what any copy of FER2013 is, in a table or as JSON.

Reads more than the pipeline does: no splits, other class names, other sizes. Nothing is refused but what cannot be read.
"""

from functools import partial
from pathlib import Path

import numpy as np

from ferlab import csv_faces, fingerprints, identify, images, sources
from ferlab.archives import in_threads, opened
from ferlab.dataset import SIZE
from ferlab.files import UserError

FERPLUS_FOLDERS = {"fer2013train": "train", "fer2013valid": "public", "fer2013test": "private"}
GRAY = 8  # levels by which the channels of a gray picture may differ after a lossy format


def read(path):
    """(faces uint8 (N, 48, 48), labels, splits, resized, coloured), the last four arrays (N,), of any copy at `path`.

    labels: class names, or the folder's own name where it is none; "" where there is none. splits: of SPLITS, or "".
    """
    place = str(path)
    with opened(Path(path).expanduser(), place) as (kind, files, _, open_member):
        pictures = [(parts, handle) for parts, handle in files if parts[-1].lower().endswith(images.NAMES)]
        if not pictures:
            name, handle = sources.choose_csv(kind, files, open_member, place, {})
            where = place if kind == "file" else f"{place}: {name}"
            faces, _, labels, splits, _ = csv_faces.read_csv(partial(open_member, handle), where)
            nothing = np.zeros(len(faces), bool)
            return faces, np.array(labels, object), np.array(splits, object), nothing, nothing
        named = [("/".join(parts), handle) for parts, handle in pictures]
        rows = [row for piece in in_threads(_look_at, sources.pieces(named, open_member, place)) for row in piece]
    faces, resized, coloured = (np.array(column) for column in zip(*rows, strict=True))
    labels, splits = zip(*(_named(parts) for parts, _ in pictures), strict=True)
    return faces, np.array(labels, object), np.array(splits, object), resized, coloured


def _look_at(piece, error):
    """What `_look` gives of each image of a piece; then the error that reading the next one raised, where it did."""
    rows = [_look(content, place) for content, place in piece]
    if error:
        raise error
    return rows


def _look(content, place):
    """(face, whether it had another size, whether it had colours) of an image file's bytes."""
    face = images.small_gray(content)
    if face is not None:
        return face, False, False
    image = images.decode(content, place)
    coloured = False
    if image.mode == "RGB":
        pixels = np.asarray(image).astype(np.int16)
        coloured = bool(np.ptp(pixels, axis=2).mean() > GRAY)
    return images.face(image), image.size != (SIZE, SIZE), coloured


def _named(parts):
    """(label, split) that a file's folders and name tell."""
    folders, (prefix, _, number) = [part.lower() for part in parts[:-1]], parts[-1].partition("_")
    splits = [csv_faces.SPLIT_OF.get(part) or FERPLUS_FOLDERS.get(part) for part in folders]
    split = next((split for split in reversed(splits) if split), "")
    official = csv_faces.OFFICIAL.get(prefix) if number else None
    if official and split in ("", "test") and not (split == "test" and official == "train"):
        split = official
    classes = [sources.CLASS_OF.get(part) for part in folders]
    label = next((label for label in reversed(classes) if label), "")
    if not label and folders and not splits[-1]:
        label = parts[-2]
    return label, split


def table(found):
    """identify.describe's dict as text."""
    shown = [*found["summary"], "", "what was done to them", *(f"  {kind:<24}{n:>8,}" for kind, n in found["changes"].items()),
             f"  {'foreign':<24}{found['foreign']:>8,}"]
    for what in ("splits", "labels"):
        rows = found[what]
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        columns.sort(key=lambda name: (identify.SPLITS.index(name) if name in identify.SPLITS else len(identify.SPLITS), name))
        if rows and columns != [""]:
            heads = [name or "(none)" for name in columns]
            width = max(9, *(len(head) + 2 for head in heads))
            shown += ["", f"{what}: official (rows) and here (columns)",
                      " " * 12 + "".join(f"{head:>{width}}" for head in heads)]
            shown += [f"  {name:<10}" + "".join(f"{row.get(column, 0):>{width},}" for column in columns)
                      for name, row in rows.items()]
    return "\n".join(shown)


def copy(path, known=None):
    """identify.describe's dict of the copy at `path`. Raises UserError where it holds too few official images to be one."""
    known = known or fingerprints.read()
    faces, labels, splits, resized, coloured = read(path)
    match = identify.match(faces, labels, splits, known, resized, coloured)
    found = identify.describe(match, labels, splits, known)
    if not identify.is_copy(found):
        raise UserError(f"{path}: no copy of FER2013: {found['known']:,} of {found['official']:,} known")
    return found
