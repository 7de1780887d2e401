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

MISSPELLED = 0.75  # from this likeness on; contempt is a class of its own, though 0.63 contentless
PIECE = 200, 4 << 20  # images, and bytes of them, that a thread decodes at once


def find(files, folders, place, own=False):
    """([(id, label, split, name, handle)], names) of the images in class folders, and of the files
    that lie elsewhere; both empty where there are no class folders.

    files, folders: as `archives.opened` yields them. own: whether folders may be classes where none
    has a name of FER2013's; beside one that has, they may be anyway. split: None, of all rows or of
    none. Raises UserError for a class that seems misspelled or is not in each split, an image one
    folder below its class or in no split beside others that are, an empty class folder, and for
    class folders in several places.
    """
    words = CLASS_OF
    rows, others, tops = _rows(files, words, place)
    if names := _own_names(others, {row[3].rpartition("/")[0] for row in rows}, own, place):
        words = words | {name.lower(): name.lower() for name in names}
        rows, others, tops = _rows(files, words, place)
        _check_splits_of(set(words) - set(CLASS_OF), rows, place)
    _check_others(others, {tuple(row[3].split("/")[:-2]) for row in rows}, words, place)
    filled = {parts[:-1] for parts, _ in files}
    for parts in sorted(folders - filled):
        if parts[-1].lower() in words and (len(parts) == 1 or parts[-2].lower() in SPLIT_OF):
            folder = "/".join(parts)
            raise UserError(
                f"{place}: {folder}: empty class folder, no images; remove it or fill it"
            )
    if len(tops) > 1:
        names = " and ".join(sorted("/".join(filter(None, top)) or "the top" for top in tops)[:2])
        raise UserError(f"{place}: holds class folders in {names}; give one of them alone")
    return rows, ["/".join(parts) for parts in others if rows]


def _rows(files, words, place):
    """(rows as of `find`, the parts of the other names, {folders that hold the class or split
    folders}). words: the class that a folder's name, in lower case, means."""
    rows, tops, others = [], set(), []
    for parts, handle in files:
        if row := _row(parts, words, place):
            top, image_id, label, split = row
            tops.add(top)
            rows.append((image_id, label, split, "/".join(parts), handle))
        else:
            others.append(parts)
    without = next((row for row in rows if not row[2]), None)
    if without and any(row[2] for row in rows):
        _, label, _, name, _ = without
        expected = f"expected for example train/{label}/{name.rpartition('/')[2]}"
        raise UserError(f"{place}: {name}: in no split folder; {expected}")
    return rows, others, tops


def _own_names(others, known, own, place):
    """Names of the folders, in any case, that are classes of one's own: of other images than those
    of FER2013's classes, in a split folder or beside a folder of these.

    known: the folders of FER2013's classes. Where there are none and `own`, it may also be all
    folders with images, if they lie in one place.
    """
    pictures = [parts for parts in others if len(parts) > 1 and images.is_named_as_one(parts[-1])]
    holders = {folder.rpartition("/")[0] for folder in known}
    found = [
        parts
        for parts in pictures
        if "/".join(parts[:-2]) in holders or len(parts) > 2 and parts[-3].lower() in SPLIT_OF
    ]
    if not known and (found or not own):
        return {parts[-2] for parts in found} if own else set()
    if not known:
        places = sorted({"/".join(parts[:-2]) or "the top" for parts in pictures})
        if len(places) > 1:
            raise UserError(
                f"{place}: holds folders with images in {places[0]} and {places[1]}; expected "
                "<class>/<image> or train/<class>/<image>"
            )
        return {parts[-2] for parts in pictures}
    for parts in found:
        if close := difflib.get_close_matches(parts[-2].lower(), CLASS_OF, 1, MISSPELLED):
            raise UserError(f"{place}: {'/'.join(parts)}: {_unknown(parts[-2], close[0])}")
    return {parts[-2] for parts in found}


def _check_splits_of(own, rows, place):
    """Raise UserError where one of one's `own` classes lacks images in train or in test: it may be
    a misspelled one, or no class."""
    splits = {}
    for _, label, split, _, _ in rows:
        splits.setdefault(label, set()).add(split)
    expected = set().union(*splits.values()) - {"validation"}
    for _, label, _, name, _ in rows:
        lacking = expected - splits[label] if label in own else ()
        if lacking:
            folder = name.split("/")[-2]
            known = sorted(name for name in splits if not expected - splits[name])
            close = difflib.get_close_matches(label, known, 1, MISSPELLED)
            text = _unknown(folder, *close or [""], known or CLASSES)
            text += f"; a class of your own needs images in {min(lacking)}, too"
            raise UserError(f"{place}: {name}: {text}")


def _check_others(others, holders, words, place):
    """Raise UserError for an image that is meant for a class, but lies below its folder.

    others: the parts of names. holders: the folders that hold class folders, as parts.
    """
    for parts in others:
        if not images.is_named_as_one(parts[-1]):
            continue
        for depth, part in enumerate(parts[:-2]):
            is_split = depth and parts[depth - 1].lower() in SPLIT_OF
            if part.lower() in words and (parts[:depth] in holders or is_split):
                fix = "/".join((*parts[: depth + 1], parts[-1]))
                raise UserError(
                    f"{place}: {'/'.join(parts)}: below the class folder {part!r}; expected {fix}"
                )


def _unknown(folder, close="", known=CLASSES):
    meant = f"did you mean {close}? " if close else ""
    return f"unknown class folder {folder!r}; {meant}known: {', '.join(known)}"


def _row(parts, words, place):
    """(folder that holds the class or split folders, id, label, split or None) of an image, else
    None."""
    name, (*top, above, parent, file) = "/".join(parts), ("", "", *parts)
    stem = file.rpartition(".")[0] or file
    split, label = SPLIT_OF.get(above.lower()), words.get(parent.lower())
    if not label or label not in CLASSES and not images.is_named_as_one(file):
        if images.is_named_as_one(file) and parent.lower() in SPLIT_OF:
            under = f"{parent}/{above if above.lower() in CLASS_OF else CLASSES[3]}/{file}"
            raise UserError(f"{place}: {name}: in no class folder; expected for example {under}")
        return None
    prefix, _, number = stem.partition("_")
    official = OFFICIAL.get(prefix) if number else None
    top = tuple(top) if split else (*top, above)
    # The folder says the split; the official name only tells which half of the test set it is.
    if not split or split == "test" and official in ("public", "private"):
        split = official
    own = "/".join(filter(None, (split, label, stem)))
    return top, stem if official else own, label, split


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
