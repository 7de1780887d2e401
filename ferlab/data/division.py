"""Splits for data that come without them: what chooses the epoch, and what gives the final score.

A network needs three sets of faces: to learn from, to choose the epoch by (public), and for the
final score (private, seen by nothing before). Folders of one's own mostly have two, or one.
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from ferlab.data import audit
from ferlab.data.balance import together, whole_groups
from ferlab.files import UserError

SHARE = 0.1  # of each class, of what is cut from train: as public and private of FER2013
SEED = 0
NEAR = 0.97  # correlation of near duplicates, as `eda.near_duplicate` is by default


def divided(dataset, place):
    """(the Dataset with a public split and a final one, what was done, as a list of lines).

    What is there keeps its faces and gets another name: validation chooses the epoch, so it is
    called public, or without test images private; test is called private, so that the final score
    has no image that chose. What is missing is cut from train: a tenth of each class, at least one
    image, drawn at random (always the same), groups of duplicates and near duplicates whole.
    place: the data's name in errors. Raises UserError where train cannot be cut.
    """
    present = set(dataset.table["split"])
    names = {} if "private" in present else {"test": "private"}
    if "public" not in present and "validation" in present:
        names["validation"] = "public" if present & {"private", "test"} else "private"
    said = [f"{old} images are called {new}" for old, new in names.items() if old in present]
    table = dataset.table.assign(split=dataset.table["split"].replace(names))
    missing = [name for name in ("private", "public") if name not in set(table["split"])]
    dataset = replace(dataset, table=table)
    if missing:
        dataset, cut = _cut_from_train(dataset, missing, place)
        said.append(cut)
    return dataset.ordered(), [*said, "public chooses the epoch, private gives the final score"]


def _cut_from_train(dataset, splits, place):
    """(the Dataset with these splits cut from train, what was done, in words)."""
    found = audit.audit(dataset, NEAR)
    labels, split = (dataset.table[name].to_numpy(object) for name in ("label", "split"))
    random = np.random.Generator(np.random.PCG64(SEED)).integers(0, 1 << 62, len(split))
    order, counts = np.argsort(random, kind="stable"), Counter(labels[split == "train"])
    counts, split = {name: counts[name] for name in sorted(counts)}, split.copy()
    parted, cut = [], []
    for name in splits:
        parted += _cut(name, split, order, labels, found, counts)
        cut.append(f"{(split == name).sum():,} {name}")
        if not (split == name).any():
            raise UserError(
                f"{place}: too few different images to cut {name} ones from train; give more, or "
                "make train/<class>/ and test/<class>/ yourself"
            )
    said = (
        f"cut from {sum(counts.values()):,} training images: {' and '.join(cut)} "
        f"({100 * SHARE:.0f} % of each class, drawn with seed {SEED}; duplicates and near "
        "duplicates stay together)"
    )
    if parted:
        said += (
            f", but not the near ones of {', '.join(sorted(set(parted)))}: too many of these faces "
            "resemble each other, so the scores flatter; better make train and test folders"
        )
    return replace(dataset, table=dataset.table.assign(split=split)), said


def _cut(name, split, order, labels, found, counts):
    """Change some of `split` from train to `name`; returns the labels whose near duplicates had to
    be parted.

    order: all rows, as drawn. found: the audit. counts: training images of each label at first.
    """

    def take(keys, wanted):
        rows = order[split[order] == "train"]
        split[whole_groups(rows, labels, keys, Counter(wanted))] = name

    here = Counter(labels[split == "train"])
    # one must stay to learn from
    wanted = {label: min(max(int(SHARE * n), 1), here[label] - 1) for label, n in counts.items()}
    take(together(found), wanted)
    got = Counter(labels[split == name])
    lacking = {label: n for label, n in wanted.items() if n and not got[label]}
    if lacking:
        take(together(found.assign(near_group=-1)), lacking)
    return [label for label in lacking if (labels[split == name] == label).any()]
