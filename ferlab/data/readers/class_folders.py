"""Images in class folders, such as train/happy/1.png: found by their names, decoded in threads."""

import difflib
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
    """([(id, label, split, name, handle)], names) of the images in class folders, and of the files
    that lie elsewhere; both empty where there are no class folders.

    files, folders: as `archives.opened` yields them. Raises UserError for an unknown class, an
    image in no split or one folder below its class, an empty class folder, and for class folders in
    several places.
    """
    rows, tops, others = [], set(), []
    for parts, handle in files:
        if row := _row(parts, place):
            top, image_id, label, split = row
            tops.add(top)
            rows.append((image_id, label, split, "/".join(parts), handle))
        else:
            others.append(parts)
    _check_others(others, {tuple(row[3].split("/")[:-2]) for row in rows}, place)
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
    return rows, ["/".join(parts) for parts in others if rows]


def _check_others(others, holders, place):
    """Raise UserError for an image that is meant for a class, but not in its folder.

    others: the parts of names. holders: the folders that hold class folders, as parts.
    """
    for parts in others:
        if not images.is_named_as_one(parts[-1]):
            continue
        name = "/".join(parts)
        if parts[:-2] in holders and len(parts) > 1:
            raise UserError(f"{place}: {name}: {_unknown(parts[-2])}")
        for depth, part in enumerate(parts[:-2]):
            is_split = depth and parts[depth - 1].lower() in SPLIT_OF
            if part.lower() in CLASS_OF and (parts[:depth] in holders or is_split):
                fix = "/".join((*parts[: depth + 1], parts[-1]))
                raise UserError(f"{place}: {name}: below the class folder {part!r}; expected {fix}")


def _unknown(folder):
    close = difflib.get_close_matches(folder.lower(), CLASS_OF, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"unknown class folder {folder!r}; {meant}known: {', '.join(CLASSES)}"


def _row(parts, place):
    """(folder that holds the class or split folders, id, label, split) of an image, else None."""
    name, (*top, above, parent, file) = "/".join(parts), ("", "", *parts)
    stem = file.rpartition(".")[0] or file
    split, label = SPLIT_OF.get(above.lower()), CLASS_OF.get(parent.lower())
    if not label:
        if images.is_named_as_one(file) and parent.lower() in SPLIT_OF:
            under = f"{parent}/{above if above.lower() in CLASS_OF else CLASSES[3]}/{file}"
            raise UserError(f"{place}: {name}: in no class folder; expected for example {under}")
        if images.is_named_as_one(file) and split:
            raise UserError(f"{place}: {name}: {_unknown(parent)}")
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
