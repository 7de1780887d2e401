"""What a copy of FER2013 really is: which official image each of its faces shows, what was done to it, and where it stands.

Works on the fingerprints alone (ferlab.fingerprints), so it needs no official copy. An image is compared as it is, mirrored and
turned by right angles; what is still unknown is searched for under small turns, shifts and zooms (ferlab.align).
"""

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from ferlab import fingerprints

SURE = 0.70  # of two vectors: no two different faces that we saw are that alike (docs/identify.md)
MAYBE, MARGIN = 0.50, 0.15  # as sure: this much alike, and so much more than to any other face
TWIN = 0.60  # official images so alike are no other face in this sense
BLOCK = 1024  # images compared at once
PROBE = 400  # a kind of change that explains less than RARE of so many unknown images is not looked for in all of them
RARE = 0.01
SAME_TONES = 4  # gray levels by which the percentiles of a merely compressed image may differ
LINEAR_TONES = 6  # the same of one whose brightness and contrast were changed
FLAT = 4.0  # gray levels: how little equalising changes what is equalised already, on average
ORIENTATIONS = {"": lambda faces: faces, "mirrored": lambda faces: faces[:, :, ::-1],
                "rotated": lambda faces: np.rot90(faces, 1, (1, 2)), "rotated ": lambda faces: np.rot90(faces, 2, (1, 2)),
                "rotated  ": lambda faces: np.rot90(faces, 3, (1, 2))}


@dataclass(frozen=True)
class Match:
    """official: int (N,), rows of fer2013.csv, -1 where the face is not known. change: object (N,), "exact", what was done to
    the image (see CHANGES), or "" where it is not known."""

    official: np.ndarray
    change: np.ndarray


def match(faces, labels, splits, known=None, resized=None, coloured=None):
    """The Match of faces uint8 (N, 48, 48) with the official images.

    labels, splits: of this copy, by which equal official images are told apart where that is possible. resized, coloured: bool
    (N,), whether a face was another size, or had colours, before it became 48x48 gray.
    """
    known = known or fingerprints.read()
    group, change = np.full(len(faces), -1), np.full(len(faces), "", object)
    order = np.argsort(known.hashes, kind="stable")
    mine = fingerprints.hashes(faces)
    place = order[np.searchsorted(known.hashes, mine, sorter=order).clip(0, len(order) - 1)]
    exact = known.hashes[place] == mine
    group[exact], change[exact] = known.groups[place[exact]], "exact"
    return Match(_assigned(group, np.asarray(labels, object), np.asarray(splits, object), known), change)


def _assigned(group, labels, splits, known):
    """The official row of each image, given the group of equal official images that it shows: each row once, as long as there
    are rows, and rather one of the same label and split."""
    single = np.bincount(known.groups) == 1
    first = np.unique(known.groups, return_index=True)[1]
    official = np.where(group >= 0, first[group], -1)
    members = {}
    for row in np.flatnonzero(~single[known.groups]):
        members.setdefault(known.groups[row], []).append(row)
    waiting = {}
    for image in np.flatnonzero((group >= 0) & ~single[group]):
        waiting.setdefault(group[image], []).append(image)
    for code, images in waiting.items():
        left = list(members[code])
        for fits in (lambda a, b: _same_split(splits[a], known.splits[b]) and labels[a] == known.labels[b],
                     lambda a, b: labels[a] == known.labels[b], lambda a, b: _same_split(splits[a], known.splits[b]),
                     lambda a, b: True):
            for image in list(images):
                row = next((row for row in left if fits(image, row)), None)
                if row is not None:
                    official[image] = row
                    left.remove(row)
                    images.remove(image)
    return official


def _same_split(here, official):
    return here == official or here == "test" and official != "train"
