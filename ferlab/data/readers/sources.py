"""Where faces come from: the drawn sample, FER2013 (a local copy or Kaggle), a path or an https address.

Class folders and FER2013's CSVs, in a folder, zip or tar, are recognised by content and give the same Dataset. Archives
are read member by member and never unpacked to disk.
"""

import os
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, assemble
from ferlab.data.readers import images
from ferlab.data.readers.archives import in_threads, opened
from ferlab.data.readers.csv_faces import OFFICIAL, PREFIX_OF, SPLIT_OF, columns_of, read_csv
from ferlab.data.readers.fetch import Unreachable, download
from ferlab.files import UserError, root, sha256

# What is known by its content (Dataset.digest), in whatever file it comes.
NAMES = {
    "e7e54e49e97c12afdbe7cc3e8f2071152fc714ace991304bf6cbb05f866c15c2": "fer2013",  # the official pixels
    "67366850129b4509b33e75fa75f1cb96f1a094f74bd430c3f434049a7e2945a2": "fer2013-jpeg",
}  # Kaggle's class folders
# Images per class, in CLASSES' order, of both.
FER2013_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4965, 4830, 3171),
    "public": (467, 56, 496, 895, 607, 653, 415),
    "private": (491, 55, 528, 879, 626, 594, 416),
}
SPELLINGS = {
    "angry": "angry anger",
    "disgust": "disgust disgusted",
    "fear": "fear fearful feared scared afraid",
    "happy": "happy happiness joy",
    "neutral": "neutral neutrality contentless",
    "sad": "sad sadness",
    "surprise": "surprise surprised",
}
CLASS_OF = {
    spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings.split()
}
PIECE = 200, 4 << 20  # images, and bytes of them, that a thread decodes at once
# The published CSV, and the images as class folders where that is no longer to be had.
KAGGLE = (
    "/api/v1/datasets/download/deadskull7/fer2013",
    "/api/v1/datasets/download/msambare/fer2013",
)


def read(dataset):
    """(Dataset, source): the faces that `download.dataset` names, and a dict on where they came from."""
    if dataset == "sample":
        from ferlab.data import sample

        return sample.draw(), {"kind": "sample"}
    place = os.environ.get("FER2013") if dataset == "fer2013" else dataset
    if place and "://" not in place:
        return read_from(dataset, place)
    wanted = "FER2013=<file>" if dataset == "fer2013" else "download.dataset to the file"
    try:
        return read_from(dataset, place) if place else read_kaggle()
    except UserError as error:
        raise UserError(f"{error}; download it by hand and set {wanted}") from None


def read_kaggle():
    """What `read` gives, of Kaggle's first copy of FER2013 that is one."""
    server = os.environ.get("FERLAB_KAGGLE", "https://www.kaggle.com").rstrip("/")
    first, second = (server + path for path in KAGGLE)
    try:
        return read_from("fer2013", first)
    except Unreachable:
        raise  # the other copy is behind the same network
    except UserError as error:
        print(f"{error}; trying {second}", flush=True)
        try:
            return read_from("fer2013", second)
        except UserError as other:
            raise UserError(f"{error}; {other}") from None


def read_from(dataset, place):
    """What `read` gives, of the file, folder or address `place`."""
    official, address = dataset == "fer2013", "://" in place
    path = download(place) if address else root() / at_home(place)
    shown = f"FER2013={place}" if official and not address else place
    try:
        data, about = read_path(path, shown)
        if official and data.name not in NAMES.values():
            pixels = "the counts are right, but the pixels differ"
            raise UserError(
                f"{shown}: not FER2013: {difference(data) or pixels}; python -m ferlab identify <it> says what it is"
            )
    except UserError:
        if address:
            path.unlink(
                missing_ok=True
            )  # a wrong download is not kept, so that the next run asks again
        raise
    kind = "url" if address else "path"
    return data, {"kind": kind, "asked": dataset, kind: place, **about}


def at_home(path):
    """The Path, with ~ for the home folder; of somebody who has none here, as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_path(path, place=None):
    """(Dataset, dict) from a folder, an archive or a CSV; `place` is what errors call it."""
    data, about = read_unnamed(path, place)
    return identified(data, about.pop("resized", set()), about.pop("coloured", set())), about


def read_unnamed(path, place=None):
    """The same before anybody asked what it is: a Dataset without a name, no row of which is known as an official one."""
    path, place = Path(path), str(place or path)
    about = {}
    with opened(path, place) as (kind, files, folders, open_member):
        found = class_folders(files, folders, place)
        if found:
            rows, form = read_images(found, open_member, place, about), "class folders"
        else:
            name, handle = choose_csv(kind, files, open_member, place, about)
            where = place if kind == "file" else f"{place}: {name}"
            rows, form = read_csv(partial(open_member, handle), where), "csv"
    faces, ids, labels, splits, places = rows
    check_rows(labels, splits, place)
    ids = unique_ids(ids, labels, splits, places, place)
    for name in {"resized", "coloured"} & set(about):
        about[name] = {ids[row] for row in about[name]}
    data = assemble(
        "", [name for name in CLASSES if name in set(labels)], faces, ids, labels, splits
    )
    about["form"] = form if kind == "file" else f"{form} in a {kind}"
    if path.is_file():
        about["sha256"] = sha256(path)
    sizes = about.pop("sizes", {f"{SIZE}x{SIZE}": len(faces)})
    return replace(data, sizes=sizes), about


def identified(data, resized=(), coloured=()):
    """The dataset with its name, which follows its content, with the official image of each row, and what it is.

    resized, coloured: ids of the images that had another size than 48x48, or colours.

    The official pixels also get their official ids, so that they are one and the same dataset in whatever order they came.
    """
    from ferlab.data.identity import (
        identify,  # here: who only reads further faces (ferlab.extra) needs no fingerprints
    )

    digest = data.digest
    name = NAMES.get(digest, f"custom-{digest[:8]}")
    labels, splits = (data.table[column].to_numpy(object) for column in ("label", "split"))
    flags = (data.table["id"].isin(ids).to_numpy() for ids in (resized, coloured))
    found = identify.match(data.faces, labels, splits, None, *flags)
    identity = identify.describe(found, labels, splits)
    if not identify.is_copy(identity):
        return replace(data, name=name)
    table = data.table.assign(official=found.official)
    if name == "fer2013":
        table["id"] = [
            f"{PREFIX_OF[split]}_{row:05}"
            for split, row in zip(table["split"], found.official, strict=True)
        ]
    return replace(data, name=name, table=table, identity=identity).ordered()


def difference(data):
    """How the counts differ from FER2013's, as one phrase; empty when they do not."""
    counts = data.counts()
    found = {(s, c): int(counts[s].get(c, 0)) for s in counts for c in CLASSES}
    wanted = {
        (s, c): n
        for s, column in FER2013_COUNTS.items()
        for c, n in zip(CLASSES, column, strict=True)
    }
    wrong = [
        f"{s}/{c} has {found.get((s, c), 0)} images, FER2013 {wanted.get((s, c), 0)}"
        for s, c in wanted | found
        if found.get((s, c), 0) != wanted.get((s, c), 0)
    ]
    return "; ".join(wrong[:2]) + (f" and {len(wrong) - 2} more" if len(wrong) > 2 else "")


def class_folders(files, folders, place):
    """[(id, label, split, name, handle)] of the images in class folders; empty when there are no class folders."""
    found, tops = [], set()
    for parts, handle in files:
        name, (*top, above, parent, file) = "/".join(parts), ("", "", *parts)
        stem, _, ending = file.rpartition(".") if "." in file else (file, "", "")
        split, label = SPLIT_OF.get(above.lower()), CLASS_OF.get(parent.lower())
        if not label:
            if f".{ending.lower()}" in images.NAMES and (split or parent.lower() in SPLIT_OF):
                raise UserError(
                    f"{place}: {name}: unknown class folder {parent!r}; known: {', '.join(CLASSES)}"
                )
            continue
        prefix, _, number = stem.partition("_")
        official = OFFICIAL.get(prefix) if number else None
        tops.add(tuple(top) if split else (*top, above))
        # The folder says the split; the official name only tells which half of the test set it is.
        split = (
            official
            if not split or split == "test" and official in ("public", "private")
            else split
        )
        if not split:
            raise UserError(
                f"{place}: {name}: in no split folder; expected for example train/{label}/{file}"
            )
        found.append((stem if official else f"{split}/{label}/{stem}", label, split, name, handle))
    filled = {parts[:-1] for parts, _ in files}
    for parts in sorted(folders - filled):
        if parts[-1].lower() in CLASS_OF and (len(parts) == 1 or parts[-2].lower() in SPLIT_OF):
            raise UserError(
                f"{place}: {'/'.join(parts)}: empty class folder, no images; remove it or fill it"
            )
    if len(tops) > 1:
        names = " and ".join(sorted("/".join(filter(None, top)) or "the top" for top in tops)[:2])
        raise UserError(f"{place}: holds class folders in {names}; give one of them alone")
    return found


def read_images(found, open_member, place, about):
    """Parallel faces, ids, labels, splits and names; notes in `about` the source sizes, and which rows had another one than
    48x48, and which had colours."""
    about |= {"resized": set(), "coloured": set()}
    faces, sizes, row = np.empty((len(found), SIZE, SIZE), np.uint8), Counter(), 0
    with tqdm(desc="reading images", total=len(found), disable=None, leave=False) as progress:
        for part in in_threads(read_pieces, pieces(found, open_member, place)):
            for face, size, coloured in part:
                sizes[size] += 1
                if size != (SIZE, SIZE):
                    about["resized"].add(row)
                if coloured:
                    about["coloured"].add(row)
                faces[row], row = face, row + 1
            progress.update(len(part))
    about["sizes"] = {f"{width}x{height}": n for (width, height), n in sorted(sizes.items())}
    ids, labels, splits, names, _ = map(list, zip(*found, strict=True))
    return faces, ids, labels, splits, names


def pieces(found, open_member, place):
    """Yield ([(an image file's bytes, what errors call it)], what reading the next raised)."""
    piece, size = [], 0
    for *_, name, handle in found:
        try:
            with open_member(handle) as file:
                piece.append((file.read(), f"{place}: {name}"))
        except Exception as error:  # told in its turn: an image before it may be damaged
            yield piece, error
            return
        size += len(piece[-1][0])
        if len(piece) == PIECE[0] or size > PIECE[1]:
            yield piece, None
            piece, size = [], 0
    yield piece, None


def read_pieces(piece, error):
    read = [read_image(content, place) for content, place in piece]
    if error:
        raise error
    return read


def read_image(content, place):
    """(48x48 gray array, source size, whether it had colours) of an image file's bytes."""
    face = images.small_gray(content)
    if face is not None:
        return face, (SIZE, SIZE), False
    image = images.decode(content, place)
    return images.face(image), image.size, images.has_colours(image)


def choose_csv(kind, files, open_member, place, about):
    """(name, handle) of the CSV to read: labelled, and with splits if there is such a one."""
    candidates = []
    for parts, handle in files:
        with open_member(handle) as file:
            columns = columns_of(file.read(4096))
        if kind == "file" or "pixels" in columns or parts[-1].lower().endswith(".csv"):
            candidates.append(
                (
                    [name in columns for name in ("emotion", "pixels", "usage")],
                    "/".join(parts),
                    handle,
                )
            )
    if not candidates:
        raise UserError(f"{place}: holds neither class folders (train/angry/...) nor a CSV")
    best = [item for item in candidates if item[0] == max(rank for rank, *_ in candidates)]
    if len(best) > 1:
        names = ", ".join(sorted(name for _, name, _ in best)[:3])
        raise UserError(f"{place}: holds several CSVs ({names}); give one of them alone")
    if len(candidates) > 1:
        about["notes"] = (
            f"{best[0][1]} chosen among {', '.join(sorted(name for _, name, _ in candidates))}"
        )
    return best[0][1:]


def unique_ids(ids, labels, splits, places, place):
    """The ids; where two rows share one, split and class go before it: FER2013 itself uses two numbers twice."""
    counts, first, unique = Counter(ids), {}, []
    for name, label, split, where in zip(ids, labels, splits, places, strict=True):
        unique.append(name if counts[name] == 1 else f"{split}/{label}/{name}")
        if not name or not name.isprintable() or first.setdefault(unique[-1], where) != where:
            raise UserError(
                f"{place}: {where}: the id {name!r} is empty, odd or also that of {first.get(unique[-1])}"
            )
    return unique


def check_rows(labels, splits, place):
    """What every form must satisfy: training images of every class, and something to evaluate on."""
    if "train" not in splits:
        raise UserError(
            f"{place}: no training images; expected train/<class>/ or rows with Usage Training"
        )
    if not {"private", "test"} & set(splits):
        # public or validation alone would choose the epoch and tell its accuracy
        raise UserError(
            f"{place}: no evaluation images; expected private or test images beside train"
        )
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    if set(labels) - trained:
        raise UserError(f"{place}: no training images of the class {min(set(labels) - trained)}")
