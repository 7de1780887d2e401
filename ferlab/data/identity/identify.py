"""What a copy of FER2013 really is: which official image each of its faces shows, what was done to
it, and where it stands.

Works on the fingerprints alone (ferlab.fingerprints), so it needs no official copy. An image is
compared as it is, mirrored and turned by right angles; what is still unknown is searched for under
small turns, shifts and zooms (ferlab.align).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ferlab.data.classes import CLASSES
from ferlab.data.identity import align, alterations, fingerprints

SURE = (
    0.70  # likeness from which on two images show the same face: docs/data.md has the measurements
)
MAYBE, MARGIN = (
    0.50,
    0.15,
)  # as sure, where nothing moved: so alike, and so much more than all others
CLEAR = 0.75  # below, a movement might explain more
BETTER = 0.04  # by which an explanation with a movement must beat the one without
TANGLED = 0.04  # official images may be mistaken for each other that are this nearly as alike
BLOCK = 1024  # images compared at once
# A movement that explains less than this share of so many unknown images is not tried on the rest.
PROBE, RARE = 400, 0.02
# A set is a copy that holds this share of the official images, or of whose own images half are some.
FEW, HALF, SOME = 0.01, 0.5, 20
SPLITS = (
    "train",
    "validation",
    "public",
    "private",
    "test",
    "",
)  # as tables order them; "" is none
MIRRORED = ("mirrored", lambda faces: faces[:, :, ::-1])
ROTATED = [
    ("rotated", lambda faces, turns=turns: np.rot90(faces, turns, (1, 2))) for turns in (1, 2, 3)
]
UPSIDE_DOWN = ("rotated", lambda faces: faces[:, ::-1])


@dataclass(frozen=True)
class Match:
    """official: int (N,), rows of fer2013.csv, -1 where the face is not known. change: object (N,),
    one of alterations.CHANGES, or "" where it is not known."""

    official: np.ndarray
    change: np.ndarray


def match(faces, labels, splits, known=None, resized=None, coloured=None):
    """The Match of faces uint8 (N, 48, 48) with the official images.

    labels, splits: of this copy, object (N,); they tell equal official images apart. resized,
    coloured: bool (N,), whether a face had another size, or colours, before it became 48x48 gray.
    """
    known, faces = known or fingerprints.read(), np.asarray(faces)
    labels, splits = np.asarray(labels, object), np.asarray(splits, object)
    row, change = np.full(len(faces), -1), np.full(len(faces), "", object)
    mine = fingerprints.hashes(faces)
    for theirs, kind in ((known.jpeg_hashes, "lossy"), (known.hashes, "exact")):
        order = np.argsort(theirs, kind="stable")
        place = order[np.searchsorted(theirs, mine, sorter=order).clip(0, len(order) - 1)]
        same = theirs[place] == mine
        row[same], change[same] = place[same], kind
    rest, moved = np.flatnonzero(row < 0), np.zeros(0, object)
    if len(rest):
        row[rest], moved = _search(faces[rest], known)
        flags = [
            np.zeros(len(rest), bool) if flag is None else np.asarray(flag)[rest]
            for flag in (resized, coloured)
        ]
        change[rest] = alterations.changes(faces[rest], row[rest], moved, known, *flags)
    official = _assigned(np.where(row >= 0, known.groups[row], -1), labels, splits, known)
    mirrored = np.zeros(len(faces), bool)
    mirrored[rest] = moved == "mirrored"
    still = rest[(moved == "") | (moved == "mirrored")]
    _untangle(official, still[official[still] >= 0], mirrored, faces, labels, splits, known)
    return Match(official, change)


def describe(match, labels, splits, known=None):
    """What a copy is, as a dict for JSON, from a Match and its own labels and splits (object (N,)).

    summary: the two most important lines.
    images, official: how many there are here, and in FER2013.
    known, missing: official images that are here, and that are not.
    changes: images here by what was done to them. foreign: images here that are not known.
    repeated: images here beyond the first of an official one.
    splits, labels: {official: {here: images}}.
    moved, relabelled: images in another split, or under another label, than officially. unnamed:
      images under no label, or one that is none of the seven.
    leak: test images whose official image is in train here as well, in whatever form; `of`: all test
      images (validation ones where there are no others).
    """
    known = known or fingerprints.read()
    there = match.official >= 0
    row, here, named = match.official[there], splits[there], labels[there]
    distinct, changed = len(set(row)), Counter(match.change[there])
    apart = [
        name != "" and not _same_split(name, official)
        for name, official in zip(here, known.splits[row], strict=True)
    ]
    test = np.isin(splits, ("public", "private", "test"))
    test = test if test.any() else splits == "validation"
    in_train = set(match.official[there & (splits == "train")])
    found = {
        "images": len(there),
        "official": len(known.hashes),
        "known": distinct,
        "missing": len(known.hashes) - distinct,
        "changes": {name: changed[name] for name in alterations.CHANGES if changed[name]},
        "foreign": int((~there).sum()),
        "repeated": len(row) - distinct,
        "splits": _matrix(known.splits[row], here),
        "labels": _matrix(known.labels[row], named),
        "moved": int(sum(apart)),
        "relabelled": int(((known.labels[row] != named) & np.isin(named, CLASSES)).sum()),
        "unnamed": int((~np.isin(named, CLASSES)).sum()),
        "leak": {
            "images": sum(official in in_train for official in match.official[there & test]),
            "of": int(test.sum()),
        },
    }
    return {"summary": _lines(found), **found}


def is_copy(found):
    """Whether a dict of `describe` tells of enough official images to call it a copy of FER2013."""
    mostly = found["images"] - found["foreign"] >= HALF * found["images"] and found["known"] >= SOME
    return found["known"] >= FEW * found["official"] or mostly


def _lines(found):
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in found["changes"].items()) or "none"
    leak = found["leak"]
    share = f" ({100 * leak['images'] / leak['of']:.1f} %)" if leak["of"] else ""
    return [
        f"{found['known']:,} of the {found['official']:,} official images ({kinds}; "
        f"{found['missing']:,} missing, {found['foreign']:,} foreign, "
        f"{found['repeated']:,} more than once)",
        f"{found['moved']:,} in another split than officially, {found['relabelled']:,} under "
        f"another label; leak: {leak['images']:,} of {leak['of']:,} test images{share} "
        "stand in train as well",
    ]


def _matrix(official, here):
    """{official: {here: images}}, both in a fixed order."""
    counts = Counter(zip(official, here, strict=True))
    columns = sorted(set(here), key=_order)
    return {
        a: {b: counts[a, b] for b in columns if counts[a, b]}
        for a in sorted(set(official), key=_order)
    }


def _order(name):
    return (SPLITS.index(name), "") if name in SPLITS else (len(SPLITS), name)


def _same_split(here, official):
    """Whether it is the same part under another name: many call public validation, and both together test."""
    return (
        here == official
        or official != "train"
        and here == "test"
        or (here, official) == ("validation", "public")
    )


def _search(faces, known):
    """(rows int (n,), -1 where unknown; moved object (n,), as of alterations.movement)."""
    row, likeness, margin = _nearest(faces, known)
    moved = np.full(len(faces), "", object)
    taken = (likeness >= SURE) | (likeness >= MAYBE) & (margin >= MARGIN)
    row[~taken], likeness[~taken] = -1, 0

    def turned(name, turn):
        def find(rest):
            rows, alike, _ = _nearest(turn(faces[rest]), known)
            return rows, alike, np.full(len(rest), name, object)

        return find

    def aligned(rest):
        rows, alike, matrices = align.search(faces[rest], known)
        return rows, alike, np.array([alterations.movement(matrix) for matrix in matrices], object)

    for kind in (MIRRORED, *ROTATED, UPSIDE_DOWN):
        _improve(np.flatnonzero(likeness < SURE), turned(*kind), row, likeness, moved)
    _improve(np.flatnonzero(likeness < CLEAR), aligned, row, likeness, moved)
    return row, moved


def _improve(rest, find, row, likeness, moved):
    """Take over, in place, what `find` finds of the images `rest` where it is sure, and more alike
    than what is known of them. It is tried on PROBE of them first."""

    def better(images):
        rows, alike, kinds = find(images)
        return rows, alike, kinds, (alike >= SURE) & (alike > likeness[images] + BETTER)

    if len(rest) > 2 * PROBE:
        some = rest[np.linspace(0, len(rest) - 1, PROBE).astype(int)]
        if better(some)[-1].mean() < RARE:
            return
    if len(rest):
        rows, alike, kinds, takes = better(rest)
        at = rest[takes]
        row[at], likeness[at], moved[at] = rows[takes], alike[takes], kinds[takes]


def _nearest(faces, known):
    """(row, likeness, margin) of the most alike official image of each face as it is; margin is by
    how much it is more alike than the next other face (0 where that does not matter)."""
    vectors = fingerprints.vectors(fingerprints.coefficients(faces), known.scale)
    row, margin = np.empty(len(faces), int), np.zeros(len(faces), np.float32)
    likeness = np.empty(len(faces), np.float32)
    for start in range(0, len(faces), BLOCK):
        alike = vectors[start : start + BLOCK] @ known.vectors.T
        best = alike.argmax(axis=1)
        top = alike[np.arange(len(best)), best]
        row[start : start + BLOCK], likeness[start : start + BLOCK] = best, top
        close = np.flatnonzero((top >= MAYBE) & (top < SURE))
        if len(close):
            few = np.argpartition(alike[close], -8, axis=1)[:, -8:]
            twins = (
                np.einsum("nkc,nc->nk", known.vectors[few], known.vectors[best[close]]) > align.TWIN
            )
            others = np.where(twins, -1, np.take_along_axis(alike[close], few, axis=1)).max(axis=1)
            margin[start + close] = top[close] - others
    return row, likeness, margin


def _assigned(group, labels, splits, known):
    """The official row of each image, given the group of equal official images that it shows: each
    row once, as long as there are rows, and rather one of the same label and split."""
    single = np.bincount(known.groups) == 1
    official = np.where(group >= 0, np.unique(known.groups, return_index=True)[1][group], -1)
    members, waiting = {}, {}
    for row in np.flatnonzero(~single[known.groups]):
        members.setdefault(known.groups[row], []).append(row)
    for image in np.flatnonzero((group >= 0) & ~single[group]):
        waiting.setdefault(group[image], []).append(image)
    for code, images in waiting.items():
        left = list(members[code])
        for wanted in (2, 1, 0):
            for image in list(images):
                row = max(
                    left, key=lambda row: _fit(image, row, labels, splits, known), default=None
                )
                if row is not None and _fit(image, row, labels, splits, known) >= wanted:
                    official[image] = row
                    left.remove(row)
                    images.remove(image)
    return official


def _fit(image, row, labels, splits, known):
    """How far an image of this copy and an official one agree: 2 in label and split, 1.5 and 1 in one
    of them, else 0."""
    label, split = labels[image] == known.labels[row], _same_split(splits[image], known.splits[row])
    return 2 if label and split else 1.5 * label or 1 * split


def _untangle(official, still, mirrored, faces, labels, splits, known):
    """Where several images claim one official row, and a nearly equal one is missing, give each its
    own, in place: by likeness, and where that is the same, by label and split.

    still: images that were changed, but not moved, unless mirrored (bool (N,)).
    """
    counts = np.bincount(official[official >= 0], minlength=len(known.hashes))
    missing, crowded = np.flatnonzero(counts == 0), still[counts[official[still]] > 1]
    if not len(missing) or not len(crowded):
        return
    upright = np.where(mirrored[crowded, None, None], faces[crowded][:, :, ::-1], faces[crowded])
    mine = fingerprints.vectors(fingerprints.coefficients(upright), known.scale)
    for row in np.unique(official[crowded]):
        at = np.flatnonzero(official[crowded] == row)
        twins = missing[known.vectors[missing] @ known.vectors[row] > align.TWIN]
        if not len(twins):
            continue
        rows = np.concatenate([np.full(len(at), row), twins])  # all may stay, or go to a twin each
        value = mine[at] @ known.vectors[rows].T
        value[value < value[:, :1] - TANGLED] = -9
        fits = np.array(
            [[_fit(image, r, labels, splits, known) for r in rows] for image in crowded[at]]
        )
        own = 1e-3 * (np.arange(len(rows)) >= len(at))
        here, there = linear_sum_assignment(value + TANGLED / 2 * fits + own, maximize=True)
        official[crowded[at[here]]] = rows[there]
        missing = np.setdiff1d(missing, rows[there])
