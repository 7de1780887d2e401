"""Where faces come from: the drawn sample, FER2013 (local or Kaggle's), a path, an https address.

Class folders and FER2013's CSVs, in a folder, zip or tar, are recognised by content and give the
same Dataset. Archives are read member by member and never unpacked to disk.
"""

import os
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import assemble
from ferlab.data.readers import class_folders
from ferlab.data.readers.archives import is_plain, local_path, opened
from ferlab.data.readers.csv_faces import read_csv
from ferlab.data.readers.csv_rows import choose_csv, has_faces_in_a_csv
from ferlab.data.readers.fetch import Unreachable, download
from ferlab.data.readers.spellings import PREFIX_OF
from ferlab.files import UserError, root, sha256
from ferlab.progress import counted
from ferlab.secrets import masked

# Known by content (Dataset.digest), in whatever file: the official pixels, Kaggle's class folders.
NAMES = {
    "e7e54e49e97c12afdbe7cc3e8f2071152fc714ace991304bf6cbb05f866c15c2": "fer2013",
    "67366850129b4509b33e75fa75f1cb96f1a094f74bd430c3f434049a7e2945a2": "fer2013-jpeg",
}
# Images per class, in CLASSES' order, of both.
FER2013_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4965, 4830, 3171),
    "public": (467, 56, 496, 895, 607, 653, 415),
    "private": (491, 55, 528, 879, 626, 594, 416),
}
# The published CSV, and the images as class folders where that is no longer available.
KAGGLE = (
    "/api/v1/datasets/download/deadskull7/fer2013",
    "/api/v1/datasets/download/msambare/fer2013",
)


VARIABLES = {"fer2013": "FER2013", "fer2013-jpeg": "FER2013_FOLDERS"}  # name local copies


def read(dataset):
    """(Dataset, source): the faces that `download.dataset` names, and a dict on where they came
    from.

    fer2013-jpeg takes Kaggle's class folders alone. Raises UserError for what cannot be read, and
    where something else is found than what is asked for.
    """
    if dataset == "sample":
        from ferlab.data.sample.dataset import draw

        return draw(), {"kind": "sample"}
    variable = VARIABLES.get(dataset)
    place = os.environ.get(variable) if variable else dataset
    if place and "://" not in place:
        return _read_from(dataset, place)
    setting = f"{variable}=<file>" if variable else "download.dataset to the file"
    try:
        return _read_from(dataset, place) if place else _read_kaggle(dataset)
    except UserError as error:
        raise UserError(f"{error}; download it by hand and set {setting}") from None


def _read_kaggle(dataset):
    """What `read` gives, of the first copy of FER2013 on Kaggle that is one."""
    server = os.environ.get("FERLAB_KAGGLE", "https://www.kaggle.com").rstrip("/")
    first, second = (server + path for path in KAGGLE)
    if dataset == "fer2013-jpeg":
        return _read_from(dataset, second)
    try:
        return _read_from("fer2013", first)
    except Unreachable:
        raise  # the other copy is behind the same network
    except UserError as error:
        print(f"{error}; trying {masked(second)}", flush=True)
        try:
            return _read_from("fer2013", second)
        except UserError as other:
            raise UserError(f"{error}; {other}") from None


def _read_from(dataset, place):
    """What `read` gives, of the file, folder or address `place`."""
    official, address = dataset in VARIABLES, "://" in place
    path = download(place) if address else root() / local_path(place)
    place = masked(place)
    shown = f"{VARIABLES[dataset]}={place}" if official and not address else place
    try:
        data, about = read_path(path, shown)
        if official and data.name not in NAMES.values():
            why = difference(data) or "the counts are right, but the pixels differ"
            raise UserError(
                f"{shown}: not FER2013: {why}; python -m ferlab identify <it> says what it is"
            )
        if dataset == "fer2013-jpeg" and data.name != dataset:
            raise UserError(f"{shown}: is {data.name}; {dataset} is Kaggle's class folders")
    except UserError:
        if address:  # a wrong download is not kept, so that the next run asks again
            path.unlink(missing_ok=True)
        raise
    kind = "url" if address else "path"
    return data, {"kind": kind, "asked": masked(dataset), kind: place, **about}


def read_path(path, place=None):
    """(Dataset, about) from a folder, an archive or a CSV; `place` is its name in errors."""
    data, about = read_unidentified(path, place)
    data = _identified(data, about.pop("resized", set()), about.pop("coloured", set()))
    said = _notes(data)
    if not {"public", "private"} <= set(data.table["split"]):
        from ferlab.data import division  # only here: FER2013 has both

        data, how = division.divided(data, place or path)
        said += how
    if said:
        data = replace(data, identity=data.identity | {"notes": said})
    return _named(data), about


def _notes(data):
    """What is to be known of the classes, where they are others than FER2013's, in a list."""
    own = [name for name in data.classes if name not in CLASSES]
    if not own:
        return []
    every = "none" if len(own) == len(data.classes) else "some"
    return [f"classes: {', '.join(data.classes)} ({every} of FER2013's seven)"]


def read_unidentified(path, place=None):
    """(Dataset, about) as `read_path` gives, before it is compared with the official images.

    The Dataset has no name, and no row an official one. about: form, sha256 of a file, notes; and
    "resized" and "coloured", the ids of images that had another size than 48x48, or colours.
    """
    path, place = Path(path), str(place or path)
    with opened(path, place) as (kind, files, folders, open_member):
        rows, others = class_folders.find(files, folders, place)
        if not rows and not has_faces_in_a_csv(files, open_member):
            rows, others = class_folders.find(files, folders, place, own=True)
        if rows:
            columns, about = class_folders.read(rows, open_member, place)
            form, about["notes"] = "class folders", _left_out(others)
        else:
            name, handle, about = choose_csv(kind, files, open_member, place)
            where = place if kind == "file" else f"{place}: {name}"
            columns, notes = read_csv(partial(open_member, handle), where)
            about, form = about | notes, "csv"
    faces, ids, labels, splits, places = columns
    splits = [split or "train" for split in splits]
    _check_rows(labels, splits, place)
    ids = _unique_ids(ids, labels, splits, places, place)
    for name in {"resized", "coloured"} & set(about):
        about[name] = {ids[row] for row in about[name]}
    data = assemble("", sorted(set(labels)), faces, ids, labels, splits)
    about["form"] = form if kind == "file" else f"{form} in a {kind}"
    if not about.get("notes"):
        about.pop("notes", None)
    if path.is_file():
        about["sha256"] = sha256(path)
    return replace(data, sizes=about.pop("sizes")), about


def _identified(data, resized, coloured):
    """The dataset with the official image of each row, and what it is a copy of.

    resized, coloured: ids of the images that had another size than 48x48, or colours.
    """
    from ferlab.data.identity import description, identify

    labels, splits = (data.table[column].to_numpy(object) for column in ("label", "split"))
    flags = (data.table["id"].isin(ids).to_numpy() for ids in (resized, coloured))
    match = identify.match(data.faces, labels, splits, None, *flags)
    identity = description.describe(match, labels, splits)
    if not description.is_copy(identity):
        return data
    return replace(data, table=data.table.assign(official=match.official), identity=identity)


def _named(data):
    """The dataset with its name, which follows its content. The official pixels also get their
    official ids: they are one dataset, in whatever order they came."""
    digest, table = data.digest, data.table
    name = NAMES.get(digest, f"custom-{digest[:8]}")
    if name == "fer2013":
        rows = zip(table["split"], table["official"], strict=True)
        table = table.assign(id=[f"{PREFIX_OF[split]}_{row:05}" for split, row in rows])
    return replace(data, name=name, table=table).ordered()


def difference(data):
    """How the counts differ from FER2013's, as one phrase; empty where they do not."""
    counts = data.counts()
    present = {(s, c): int(counts[s].get(c, 0)) for s in counts for c in CLASSES}
    official = {
        (s, c): n
        for s, column in FER2013_COUNTS.items()
        for c, n in zip(CLASSES, column, strict=True)
    }
    wrong = [
        f"{s}/{c} has {counted(present.get((s, c), 0), 'image')}, FER2013 {official.get((s, c), 0)}"
        for s, c in official | present
        if present.get((s, c), 0) != official.get((s, c), 0)
    ]
    return "; ".join(wrong[:2]) + (f" and {len(wrong) - 2} more" if len(wrong) > 2 else "")


def _left_out(names):
    """A note on files that lie in no class folder; empty where there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"left out: {len(names)} in no class folder ({shown})"


def _unique_ids(ids, labels, splits, places, place):
    """The ids; where two rows share one, split and class go before it: FER2013 itself uses two
    numbers twice."""
    counts, first, unique = Counter(ids), {}, []
    for name, label, split, where in zip(ids, labels, splits, places, strict=True):
        unique.append(name if counts[name] == 1 else f"{split}/{label}/{name}")
        if not name or not is_plain(name):
            what = "has odd characters" if name else "is empty"
            raise UserError(f"{place}: {where}: the id {name!r} {what}; change it")
        if (other := first.setdefault(unique[-1], where)) != where:
            raise UserError(
                f"{place}: {where}: the id {name!r} is also that of {other}; rename or remove one"
            )
    return unique


def _check_rows(labels, splits, place):
    """What every form must hold: training images of every class, two classes at least."""
    if "train" not in splits:
        expected = "expected train/<class>/ or rows with Usage Training"
        raise UserError(f"{place}: no training images; {expected}")
    if set(splits) == {"train", "public"}:
        # which FER2013 itself uses to choose the epoch: no final score
        expected = "expected private or test images beside train"
        raise UserError(f"{place}: no evaluation images; {expected}")
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    if set(labels) - trained:
        raise UserError(f"{place}: no training images of the class {min(set(labels) - trained)}")
    if len(trained) < 2:
        raise UserError(
            f"{place}: one class alone ({min(trained)}); a network tells two or more apart"
        )
