"""Which official image each face of a copy of FER2013 shows, and what was done to it.

Works on the fingerprints alone, so it needs no official copy. Equal pixels are found by their
hash, all others by likeness (ferlab.data.identity.search). Official images that are equal or
nearly so are told apart by the copy's labels and splits.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ferlab.data.identity import align, alterations, features, fingerprints
from ferlab.data.identity.search import search

TANGLED = 0.04  # official images may be mistaken for each other that are this nearly as alike


@dataclass(frozen=True)
class Match:
    """official: int (N,), rows of fer2013.csv, -1 where the face is not known. change: object (N,),
    one of alterations.CHANGES, or "" where it is not known."""

    official: np.ndarray
    change: np.ndarray


def match(faces, labels, splits, known=None, resized=None, coloured=None):
    """The Match of faces uint8 (N, 48, 48) with the official images.

    labels, splits: of this copy, object (N,); they tell equal official images apart. known: the
    fingerprints.Known to compare with. resized, coloured: bool (N,), whether a face had another
    size, or colours, before it became 48x48 gray.
    """
    known, faces = known or fingerprints.read(), np.asarray(faces)
    labels, splits = np.asarray(labels, object), np.asarray(splits, object)
    row, change = _by_hash(faces, known)
    rest, moved = np.flatnonzero(row < 0), np.zeros(0, object)
    if len(rest):
        row[rest], moved = search(faces[rest], known)
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


def same_split(own, official):
    """Whether a copy's split is the official one under another name: many call public validation,
    and both together test."""
    if own == "test":
        return official != "train"
    return own == official or (own, official) == ("validation", "public")


def _by_hash(faces, known):
    """(row int (N,), -1 where unknown; change object (N,)) of the faces whose very pixels are
    known."""
    row, change = np.full(len(faces), -1), np.full(len(faces), "", object)
    mine = features.hashes(faces)
    for theirs, kind in ((known.jpeg_hashes, "lossy"), (known.hashes, "exact")):
        order = np.argsort(theirs, kind="stable")
        place = order[np.searchsorted(theirs, mine, sorter=order).clip(0, len(order) - 1)]
        same = theirs[place] == mine
        row[same], change[same] = place[same], kind
    return row, change


def _assigned(group, labels, splits, known):
    """The official row of each image, given the group of equal official images that it shows.

    Each row is given once, as long as there are rows, preferably one of the same label and split.
    """
    single = np.bincount(known.groups) == 1
    official = np.where(group >= 0, np.unique(known.groups, return_index=True)[1][group], -1)
    members, waiting = {}, {}
    for row in np.flatnonzero(~single[known.groups]):
        members.setdefault(known.groups[row], []).append(row)
    for image in np.flatnonzero((group >= 0) & ~single[group]):
        waiting.setdefault(group[image], []).append(image)
    for code, images in waiting.items():
        rows_left = list(members[code])
        for wanted in (2, 1, 0):
            for image in list(images):
                fits = [_fit(image, row, labels, splits, known) for row in rows_left]
                if fits and max(fits) >= wanted:
                    official[image] = rows_left.pop(fits.index(max(fits)))
                    images.remove(image)
    return official


def _fit(image, row, labels, splits, known):
    """How far an image of this copy and an official one agree: 2 in label and split, 1.5 and 1 in
    one of them, else 0."""
    label = labels[image] == known.labels[row]
    split = same_split(splits[image], known.splits[row])
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
    mine = features.vectors(features.coefficients(upright), known.scale)
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
        image, place = linear_sum_assignment(value + TANGLED / 2 * fits + own, maximize=True)
        official[crowded[at[image]]] = rows[place]
        missing = np.setdiff1d(missing, rows[place])
