"""Images in class folders, such as train/happy/1.png: found by their names, decoded in threads."""

from collections import Counter

import numpy as np
from tqdm import tqdm

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE
from ferlab.data.readers import images
from ferlab.data.readers.spellings import CLASS_OF, OFFICIAL, SPLIT_OF
from ferlab.data.threads import in_threads
from ferlab.files import UserError

PIECE = 200, 4 << 20  # images, and bytes of them, that a thread decodes at once


def find(files, folders, place):
    """[(id, label, split, name, handle)] of the images in class folders; empty where there are
    none.

    files, folders: as `archives.opened` yields them. Raises UserError for an unknown class, an
    image in no split, an empty class folder, and for class folders in several places.
    """
    rows, tops = [], set()
    for parts, handle in files:
        if not (row := _row(parts, place)):
            continue
        top, image_id, label, split = row
        tops.add(top)
        rows.append((image_id, label, split, "/".join(parts), handle))
    filled = {parts[:-1] for parts, _ in files}
    for parts in sorted(folders - filled):
        if parts[-1].lower() in CLASS_OF and (len(parts) == 1 or parts[-2].lower() in SPLIT_OF):
            folder = "/".join(parts)
            raise UserError(
                f"{place}: {folder}: empty class folder, no images; remove it or fill it"
            )
    if len(tops) > 1:
        names = " and ".join(sorted("/".join(filter(None, top)) or "the top" for top in tops)[:2])
        raise UserError(f"{place}: holds class folders in {names}; give one of them alone")
    return rows


def _row(parts, place):
    """(folder that holds the class or split folders, id, label, split) of an image, else None."""
    name, (*top, above, parent, file) = "/".join(parts), ("", "", *parts)
    stem, _, ending = file.rpartition(".") if "." in file else (file, "", "")
    split, label = SPLIT_OF.get(above.lower()), CLASS_OF.get(parent.lower())
    if not label:
        if f".{ending.lower()}" in images.NAMES and (split or parent.lower() in SPLIT_OF):
            known = ", ".join(CLASSES)
            raise UserError(f"{place}: {name}: unknown class folder {parent!r}; known: {known}")
        return None
    prefix, _, number = stem.partition("_")
    official = OFFICIAL.get(prefix) if number else None
    top = tuple(top) if split else (*top, above)
    # The folder says the split; the official name only tells which half of the test set it is.
    if not split or split == "test" and official in ("public", "private"):
        split = official
    if not split:
        expected = f"expected for example train/{label}/{file}"
        raise UserError(f"{place}: {name}: in no split folder; {expected}")
    return top, stem if official else f"{split}/{label}/{stem}", label, split


def read(rows, open_member, place):
    """((faces, ids, labels, splits, names), notes) of what `find` found.

    faces: uint8 (N, 48, 48); the others are parallel lists. notes: "sizes", the images per source
    size; "resized" and "coloured", the indices of images that had another size or colours.
    """
    resized, coloured = set(), set()
    faces, sizes, row = np.empty((len(rows), SIZE, SIZE), np.uint8), Counter(), 0
    with tqdm(desc="reading images", total=len(rows), disable=None, leave=False) as progress:
        for piece in in_threads(decode_piece, pieces(rows, open_member, place)):
            for face, size, has_colours in piece:
                sizes[size] += 1
                if size != (SIZE, SIZE):
                    resized.add(row)
                if has_colours:
                    coloured.add(row)
                faces[row], row = face, row + 1
            progress.update(len(piece))
    sizes = {f"{width}x{height}": n for (width, height), n in sorted(sizes.items())}
    ids, labels, splits, names, _ = map(list, zip(*rows, strict=True))
    notes = {"resized": resized, "coloured": coloured, "sizes": sizes}
    return (faces, ids, labels, splits, names), notes


def pieces(rows, open_member, place):
    """Yield ([(an image file's bytes, its name in errors)], what reading the next raised).

    rows: [(..., name, handle)].
    """
    piece, size = [], 0
    for *_, name, handle in rows:
        try:
            with open_member(handle) as file:
                piece.append((file.read(), f"{place}: {name}"))
        except Exception as error:  # raised in its turn: an image before it may be damaged
            yield piece, error
            return
        size += len(piece[-1][0])
        if len(piece) == PIECE[0] or size > PIECE[1]:
            yield piece, None
            piece, size = [], 0
    yield piece, None


def decode_piece(piece, error):
    """[`images.read`] of what `pieces` yields; then its error, if it has one, is raised."""
    decoded = [images.read(content, place) for content, place in piece]
    if error:
        raise error
    return decoded
