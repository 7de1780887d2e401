"""What a copy of FER2013 is, in counts and two sentences, from the official image of each of its
faces."""

from collections import Counter

import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.identity import alterations, fingerprints
from ferlab.data.identity.identify import same_split

# A set is a copy that holds this share of the official images, or of whose own images half are
# official, if these are at least so many.
MIN_SHARE, MIN_OWN_SHARE, MIN_IMAGES = 0.01, 0.5, 20
SPLITS = ("train", "validation", "public", "private", "test", "")  # as tables order them; "": none


def describe(match, labels, splits, known=None):
    """What a copy is, as a dict for JSON, from an identify.Match and its own labels and splits
    (object (N,)).

    summary: the two most important lines.
    images, official: how many there are in the copy, and in FER2013.
    known, missing: official images that the copy has, and that it lacks.
    changes: images of the copy by what was done to them. foreign: images that are not known.
    repeated: images beyond the first of an official one.
    splits, labels: {official: {the copy's: images}}.
    moved, relabelled: images in another split, or under another label, than officially. unnamed:
      images under no label, or one that is none of the seven.
    leak: test images whose official image is in the copy's train as well, in whatever form; `of`:
      all test images (validation ones where there are no others).
    """
    known = known or fingerprints.read()
    is_known = match.official >= 0
    row, split, label = match.official[is_known], splits[is_known], labels[is_known]
    distinct, changes = len(set(row)), Counter(match.change[is_known])
    pairs = zip(split, known.splits[row], strict=True)
    moved = [own != "" and not same_split(own, official) for own, official in pairs]
    counts = {
        "images": len(match.official),
        "official": len(known.hashes),
        "known": distinct,
        "missing": len(known.hashes) - distinct,
        "changes": {name: changes[name] for name in alterations.CHANGES if changes[name]},
        "foreign": int((~is_known).sum()),
        "repeated": len(row) - distinct,
        "splits": _matrix(known.splits[row], split),
        "labels": _matrix(known.labels[row], label),
        "moved": int(sum(moved)),
        "relabelled": int(((known.labels[row] != label) & np.isin(label, CLASSES)).sum()),
        "unnamed": int((~np.isin(label, CLASSES)).sum()),
        "leak": _leak(match.official, splits),
    }
    return {"summary": _summary(counts), **counts}


def _leak(official, splits):
    """{"images": test images that train shows as well, "of": test images}."""
    test = np.isin(splits, ("public", "private", "test"))
    test = test if test.any() else splits == "validation"
    in_train = set(official[(official >= 0) & (splits == "train")])
    leaked = sum(row in in_train for row in official[(official >= 0) & test])
    return {"images": leaked, "of": int(test.sum())}


def is_copy(identity):
    """Whether a dict of `describe` counts enough official images to call it a copy of FER2013."""
    own = identity["images"] - identity["foreign"]
    mostly = own >= MIN_OWN_SHARE * identity["images"] and identity["known"] >= MIN_IMAGES
    return identity["known"] >= MIN_SHARE * identity["official"] or mostly


def table(identity):
    """A dict of `describe` as text for a terminal."""
    lines = [
        *identity["summary"],
        "",
        "what was done to them",
        *(f"  {kind:<24}{n:>8,}" for kind, n in identity["changes"].items()),
        f"  {'foreign':<24}{identity['foreign']:>8,}",
    ]
    for what in ("splits", "labels"):
        rows = identity[what]
        columns = sorted({name for row in rows.values() for name in row}, key=_order)
        if rows and columns != [""]:
            lines += ["", f"{what}: official (rows) and here (columns)", *_grid(rows, columns)]
    return "\n".join(lines)


def _grid(rows, columns):
    """The lines of a table of counts {row: {column: n}} with its heading."""
    heads = [name or "(none)" for name in columns]
    width = max(9, *(len(head) + 2 for head in heads))
    return [
        " " * 12 + "".join(f"{head:>{width}}" for head in heads),
        *(
            f"  {name:<10}" + "".join(f"{row.get(column, 0):>{width},}" for column in columns)
            for name, row in rows.items()
        ),
    ]


def _summary(counts):
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in counts["changes"].items()) or "none"
    leak = counts["leak"]
    share = f" ({100 * leak['images'] / leak['of']:.1f} %)" if leak["of"] else ""
    return [
        f"{counts['known']:,} of the {counts['official']:,} official images ({kinds}; "
        f"{counts['missing']:,} missing, {counts['foreign']:,} foreign, "
        f"{counts['repeated']:,} more than once)",
        f"{counts['moved']:,} in another split than officially, {counts['relabelled']:,} under "
        f"another label; leak: {leak['images']:,} of {leak['of']:,} test images{share} "
        "stand in train as well",
    ]


def _matrix(official, own):
    """{official: {the copy's: images}}, both in a fixed order."""
    counts = Counter(zip(official, own, strict=True))
    columns = sorted(set(own), key=_order)
    return {
        row: {column: counts[row, column] for column in columns if counts[row, column]}
        for row in sorted(set(official), key=_order)
    }


def _order(name):
    return (SPLITS.index(name), "") if name in SPLITS else (len(SPLITS), name)
