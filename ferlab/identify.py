"""What a copy of FER2013 really is: which official image each of its faces shows, what was done to it, and where it stands.

Works on the fingerprints alone (ferlab.fingerprints), so it needs no official copy. An image is compared as it is, mirrored and
turned by right angles; what is still unknown is searched for under small turns, shifts and zooms (ferlab.align).
"""

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from ferlab import align, fingerprints

SURE = 0.70  # likeness from which on two images show the same face: docs/identify.md has what was measured
MAYBE, MARGIN = 0.50, 0.15  # as sure, where nothing was moved: this much alike, and so much more than any other face
CLEAR = 0.75  # below, a movement might explain more
TANGLED = 0.04  # official images that are alike to within this share of an image may be mistaken for each other
BLOCK = 1024  # images compared at once
PROBE, RARE = 400, 0.02  # a movement that explains less than this share of so many unknown images is not looked for in the rest
SAME_TONES, MOVED_TONES = 3, 12  # gray levels by which the percentiles of a compressed, or moved, image differ on average
LINEAR_TONES = 6  # by which those of one with another brightness and contrast differ at most from a straight line
FLAT = 6.0  # gray levels, on average: what equalising still changes in an image that is equalised already
STILL, SPREAD = 1.0, 19.6  # pixels, root of the mean square over the image: smaller movements are none; of a pixel from the middle
RIGHT_ANGLES = {"mirrored": lambda faces: faces[:, :, ::-1], "rotated": lambda faces: np.rot90(faces, 1, (1, 2)),
                "upside down": lambda faces: np.rot90(faces, 2, (1, 2)), "other way": lambda faces: np.rot90(faces, 3, (1, 2)),
                "flipped": lambda faces: faces[:, ::-1]}
FEW = 0.01  # of the official images: a set with fewer is no copy
SPLITS = ("train", "validation", "public", "private", "test", "")  # their order in tables; "" is none
# In the order in which tables show them. "altered" is what none of the others explains alone.
CHANGES = ("exact", "lossy", "brightness or contrast", "equalised", "colour", "mirrored", "rotated", "resized or cropped", "altered")


@dataclass(frozen=True)
class Match:
    """official: int (N,), rows of fer2013.csv, -1 where the face is not known. change: object (N,), one of CHANGES, or "" where
    it is not known."""

    official: np.ndarray
    change: np.ndarray


def match(faces, labels, splits, known=None, resized=None, coloured=None):
    """The Match of faces uint8 (N, 48, 48) with the official images.

    labels, splits: of this copy, object (N,), by which equal official images are told apart where that is possible. resized,
    coloured: bool (N,), whether a face had another size, or colours, before it became 48x48 gray.
    """
    known = known or fingerprints.read()
    faces, nothing = np.asarray(faces), np.zeros(len(faces), bool)
    row, change = np.full(len(faces), -1), np.full(len(faces), "", object)
    order = np.argsort(known.hashes, kind="stable")
    mine = fingerprints.hashes(faces)
    place = order[np.searchsorted(known.hashes, mine, sorter=order).clip(0, len(order) - 1)]
    exact = known.hashes[place] == mine
    row[exact], change[exact] = place[exact], "exact"
    rest, moved = np.flatnonzero(~exact), np.zeros(0, object)
    labels, splits = np.asarray(labels, object), np.asarray(splits, object)
    if len(rest):
        found, moved = _search(faces[rest], known)
        row[rest] = found
        change[rest] = _changes(faces[rest], found, moved, known, *((nothing if flags is None else np.asarray(flags))[rest]
                                                                    for flags in (resized, coloured)))
    group = np.where(row >= 0, known.groups[row], -1)
    official = _assigned(group, labels, splits, known)
    still = rest[moved == ""]
    _untangle(official, still[official[still] >= 0], faces, labels, splits, known)
    return Match(official, change)


# ---- which image ----------------------------------------------------------------------------------------------------

def _search(faces, known):
    """(rows int (n,), -1 where unknown; moved object (n,): "", a kind of movement, or several as "altered")."""
    row, likeness, margin = _nearest(fingerprints.vectors(fingerprints.coefficients(faces), known.scale), known)
    moved = np.full(len(faces), "", object)
    taken = (likeness >= SURE) | (likeness >= MAYBE) & (margin >= MARGIN)
    row[~taken], likeness[~taken] = -1, 0
    for name, turn in RIGHT_ANGLES.items():
        def turned(rest, turn=turn):
            vectors = fingerprints.vectors(fingerprints.coefficients(turn(faces[rest])), known.scale)
            rows, alike, _ = _nearest(vectors, known)
            return rows, alike, np.full(len(rest), name if name == "mirrored" else "rotated", object)
        _improve(np.flatnonzero(likeness < SURE), turned, row, likeness, moved)

    def aligned(rest):
        rows, alike, _, matrices = align.search(faces[rest], known)
        return rows, alike, np.array([_movement(matrix) for matrix in matrices], object)
    _improve(np.flatnonzero(likeness < CLEAR), aligned, row, likeness, moved)
    return row, moved


def _improve(rest, find, row, likeness, moved):
    """Take over, in place, what `find` finds of the images `rest` that is sure and more alike than what is known of them; it is
    tried on PROBE of them first."""
    if len(rest) > 2 * PROBE:
        some = rest[np.linspace(0, len(rest) - 1, PROBE).astype(int)]
        rows, alike, _ = find(some)
        if ((alike >= SURE) & (alike > likeness[some] + 0.04)).mean() < RARE:
            return
    if len(rest):
        rows, alike, kinds = find(rest)
        better = (alike >= SURE) & (alike > likeness[rest] + 0.04)
        row[rest[better]], likeness[rest[better]], moved[rest[better]] = rows[better], alike[better], kinds[better]


def _nearest(vectors, known):
    """(row, likeness, margin) of the most alike official image of each vector float32 (n, 160): margin is by how much it is more
    alike than the next other face."""
    row, likeness, margin = np.empty(len(vectors), int), np.empty(len(vectors), np.float32), np.zeros(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        alike = vectors[start:start + BLOCK] @ known.vectors.T
        best = alike.argmax(axis=1)
        top = alike[np.arange(len(best)), best]
        row[start:start + BLOCK], likeness[start:start + BLOCK] = best, top
        close = np.flatnonzero((top >= MAYBE) & (top < SURE))
        if len(close):
            eight = np.argpartition(alike[close], -8, axis=1)[:, -8:]
            twins = np.einsum("nkc,nc->nk", known.vectors[eight], known.vectors[best[close]]) > align.TWIN
            others = np.where(twins, -1, np.take_along_axis(alike[close], eight, axis=1)).max(axis=1)
            margin[start + close] = top[close] - others
    return row, likeness, margin


def _movement(matrix):
    """In one word what a movement (ferlab.align) is: "", mirrored, rotated, resized or cropped, or several of these: altered."""
    turn, shift = matrix[:2, :2], matrix[:2, 2]
    mirrored = np.linalg.det(turn) < 0
    if mirrored:
        turn = turn @ np.diag([-1, 1])
    angle, zoom = np.arctan2(turn[1, 0], turn[0, 0]), np.sqrt(abs(np.linalg.det(turn)))
    turned, framed = abs(angle) * SPREAD, np.hypot((zoom - 1) * SPREAD, np.linalg.norm(shift))
    kinds = ["mirrored"] * bool(mirrored)
    kinds += ["rotated"] * bool(turned > max(STILL, framed / 2)) + ["resized or cropped"] * bool(framed > max(STILL, turned / 2))
    return kinds[0] if len(kinds) == 1 else "altered" if kinds else ""


def _assigned(group, labels, splits, known):
    """The official row of each image, given the group of equal official images that it shows: each row once, as long as there
    are rows, and rather one of the same label and split."""
    single = np.bincount(known.groups) == 1
    first = np.unique(known.groups, return_index=True)[1]
    official = np.where(group >= 0, first[group], -1)
    members, waiting = {}, {}
    for row in np.flatnonzero(~single[known.groups]):
        members.setdefault(known.groups[row], []).append(row)
    for image in np.flatnonzero((group >= 0) & ~single[group]):
        waiting.setdefault(group[image], []).append(image)

    def same_split(image, row):
        return _same_split(splits[image], known.splits[row])

    def same_label(image, row):
        return labels[image] == known.labels[row]

    for code, images in waiting.items():
        left = list(members[code])
        for fits in (lambda *pair: same_label(*pair) and same_split(*pair), same_label, same_split, lambda *_: True):
            for image in list(images):
                row = next((row for row in left if fits(image, row)), None)
                if row is not None:
                    official[image] = row
                    left.remove(row)
                    images.remove(image)
    return official


def _untangle(official, still, faces, labels, splits, known):
    """Where several images claim one official row and a nearly equal one is missing, give each its own, in place: by likeness,
    and where that is the same, by label and split. still: images that were changed, but not moved."""
    counts = np.bincount(official[official >= 0], minlength=len(known.hashes))
    missing = np.flatnonzero(counts == 0)
    crowded = still[counts[official[still]] > 1]
    if not len(missing) or not len(crowded):
        return
    mine = fingerprints.vectors(fingerprints.coefficients(faces[crowded]), known.scale)
    for row in np.unique(official[crowded]):
        at = np.flatnonzero(official[crowded] == row)
        rows = missing[known.vectors[missing] @ known.vectors[row] > align.TWIN]
        if not len(rows):
            continue
        rows = np.concatenate([np.full(len(at), row), rows])  # one image may stay with others where it is
        value = mine[at] @ known.vectors[rows].T
        value[value < value[:, :1] - TANGLED] = -9
        fits = np.array([[(labels[image] == known.labels[r]) + _same_split(splits[image], known.splits[r]) for r in rows]
                         for image in crowded[at]])
        here, there = linear_sum_assignment(value + TANGLED / 2 * fits + 1e-3 * (np.arange(len(rows)) >= len(at)), maximize=True)
        official[crowded[at[here]]] = rows[there]
        missing = np.setdiff1d(missing, rows[there])


def _same_split(here, official):
    return here == official or here == "test" and official != "train"


# ---- what was done to it --------------------------------------------------------------------------------------------

def _changes(faces, row, moved, known, resized, coloured):
    """One of CHANGES for each face, "" for unknown ones."""
    mine, theirs = fingerprints.tones(faces).astype(int), known.tones[row].astype(int)
    apart = np.abs(mine - theirs).mean(axis=1)
    same = apart <= np.where((moved == "") | (moved == "mirrored"), SAME_TONES, MOVED_TONES)
    found = np.full(len(faces), "", object)
    for index in np.flatnonzero(row >= 0):
        kinds = [moved[index]] if moved[index] else []
        if coloured[index]:
            kinds.append("colour")
        if not same[index] and not coloured[index]:
            kinds.append("equalised" if _flat(faces[index]) else
                         "brightness or contrast" if _linear(theirs[index], mine[index]) else "altered")
        if resized[index]:
            kinds = [kind for kind in kinds if kind != "resized or cropped"] + ["resized or cropped"]
        found[index] = kinds[0] if len(kinds) == 1 else "altered" if kinds else "lossy"
    return found


def _flat(face):
    """Whether a face is equalised already."""
    return cv2.absdiff(face, cv2.equalizeHist(np.ascontiguousarray(face))).mean() <= FLAT


def _linear(before, after):
    """Whether the percentiles `after` come from `before` by brightness and contrast, clipped to 0..255."""
    inside = (after > 0) & (after < 255)
    if inside.sum() < 2 or np.ptp(before[inside]) == 0:
        return False
    factor, offset = np.polyfit(before[inside], after[inside], 1)
    return bool(factor > 0 and np.abs(np.clip(factor * before + offset, 0, 255) - after).max() <= LINEAR_TONES)


# ---- what the copy is --------------------------------------------------------------------------------------------------

def describe(match, labels, splits, known=None):
    """What a copy is, as a dict for JSON, from a Match and the copy's own labels and splits (object (N,)).

    summary: the two most important lines. images, official: how many there are here, and in FER2013. known, missing: official images that are here, or not. changes:
    images here by what was done to them. foreign: images here that are not known. repeated: images here beyond the first of an
    official one. splits, labels: {official: {here: images}}. moved, relabelled: images in another split, or under another label, than
    officially (of those with a split or label). leak: test images whose official image is in train here as well, in whatever form;
    `of` is the number of test images.
    """
    known = known or fingerprints.read()
    there = match.official >= 0
    row, here, labels = match.official[there], splits[there], labels[there]
    official_splits, official_labels = known.splits[row], known.labels[row]
    test = np.isin(splits, ("public", "private", "test")) if np.isin(splits, ("public", "private", "test")).any() \
        else splits == "validation"
    in_train = set(match.official[there & (splits == "train")])
    leaked = sum(row in in_train for row in match.official[there & test])
    apart = [a != b and not (b == "test" and a != "train") for a, b in zip(official_splits, here, strict=True)]
    counts = Counter(match.change[there])
    found = {"images": len(there), "official": len(known.hashes), "known": len(set(row)),
            "missing": len(known.hashes) - len(set(row)),
            "changes": {name: counts[name] for name in CHANGES if counts[name]},
            "foreign": int((~there).sum()), "repeated": int(there.sum() - len(set(row))),
            "splits": _matrix(official_splits, here), "labels": _matrix(official_labels, labels),
            "moved": int(sum(np.array(apart, bool) & (here != ""))),
            "relabelled": int(((official_labels != labels) & (labels != "")).sum()),
            "leak": {"images": int(leaked), "of": int(test.sum())}}
    return {"summary": lines(found), **found}


def _matrix(official, here):
    """{official: {here: images}}, both in a fixed order."""
    counts = Counter(zip(official, here, strict=True))

    def order(name):
        return (SPLITS.index(name), "") if name in SPLITS else (len(SPLITS), name)

    return {a: {b: counts[a, b] for b in sorted(set(here), key=order) if counts[a, b]} for a in sorted(set(official), key=order)}


def lines(found):
    """The two most important lines of `describe`'s dict."""
    changes, leak = found["changes"], found["leak"]
    said = ", ".join(f"{n:,} {kind}" for kind, n in changes.items())
    first = f"{found['known']:,} of the {found['official']:,} official images ({said}; {found['missing']:,} missing, " \
            f"{found['foreign']:,} foreign, {found['repeated']:,} more than once)"
    share = f" ({100 * leak['images'] / leak['of']:.1f} %)" if leak["of"] else ""
    second = f"{found['moved']:,} in another split than officially, {found['relabelled']:,} under another label; " \
             f"leak: {leak['images']:,} of {leak['of']:,} test images{share} stand in train as well"
    return [first, second]


def is_copy(found):
    """Whether enough official images are there to call it a copy of FER2013."""
    return found["known"] >= FEW * found["official"]
