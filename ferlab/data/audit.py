"""What is wrong with the images: duplicates, contradicting labels, leaks into train, blanks."""

import hashlib

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from ferlab.data.dataset import SIZE
from ferlab.data.threads import in_threads

BLANK = 2  # pixel standard deviation below which an image shows nothing (FER2013 has 13 such)
THUMBNAIL = 12
BLOCK, WIDE = 256, 4  # BLOCK x WIDE * BLOCK images compared at once: 1 MiB, a core's cache
AXES = 15  # of 144, compared at first
SLACK = 1e-4  # far more than the error of a float32 sum of 16 products


def audit(dataset, near_duplicate):
    """DataFrame, one row per image in the dataset's order:

    id, split, label, official: as in the dataset's table.
    mean, std: of the pixels (0 to 255), rounded to 4 places. blank: std < 2.
    group: number of the exact-duplicate group (equal pixels), -1 where the image is unique.
    near_group: the same for near duplicates: images linked, directly or through others, by equal
      pixels or by a correlation of their 12x12 thumbnails of at least `near_duplicate`; blank
      images belong to none.
    across_splits: the exact group spans two or more splits. conflicting: it has several labels.
    seen: it has both a training image and an evaluation image (true for all images of the group).
    """
    faces = dataset.faces
    mean, std, thumbnails = _measured(faces)
    blank = std < BLANK
    digests = np.array([hashlib.sha256(face).digest() for face in faces], dtype=object)
    same, _ = pd.factorize(digests)
    near = np.full(len(faces), -1)
    near[~blank] = _numbered(_near(thumbnails[~blank], same[~blank], near_duplicate))
    table = dataset.table[["id", "split", "label", "official"]].assign(
        mean=mean.round(4), std=std.round(4), blank=blank, group=_numbered(same), near_group=near
    )
    groups = table.groupby(same)
    return table.assign(
        across_splits=groups["split"].transform("nunique") > 1,
        conflicting=groups["label"].transform("nunique") > 1,
        seen=(table["split"] == "train").groupby(same).transform("nunique") > 1,
    )


def read(path):
    """The audit as it was written to `path` as CSV."""
    types = {"id": str, "split": str, "label": str, "official": int}
    return pd.read_csv(path, dtype=types, keep_default_na=False)


def of(path, dataset):
    """The audit at `path` of the images of `dataset`, in its order.

    An audit of FER2013's pixels serves Kaggle's class folders too: an image is known by its
    official row. What the audit does not know comes as it is, for the caller to refuse.
    """
    table, ids, official = read(path), dataset.table["id"], dataset.table["official"]
    known = pd.Index(table["official"])
    if list(table["id"]) == list(ids) or not known.is_unique:
        return table
    places = known.get_indexer(official)
    if (places < 0).any():
        return table
    return table.iloc[places].reset_index(drop=True).assign(id=ids.to_numpy())


def leaked(path, rows):
    """Private images that train has too, from the audit at `path`: {name of a split: their ids}.

    rows: a frame with the ids and official rows of the images, and with other ids than the audit's
    where these are in Kaggle's form.

    private_unseen leaves out those whose very pixels are in train; private_unseen_near also those
    that the audit links to a training image as near duplicates. In the official FER2013, at 0.97,
    these are 288 and 491.
    """
    table = read(path)
    private = table["split"] == "private"
    masks = {"private_unseen": table["seen"], "private_unseen_near": _nearly_seen(table)}
    rows = rows[rows["split"] == "private"]
    by = "id" if rows["id"].isin(table["id"]).all() else "official"
    known = {name: table.loc[private & mask, by] for name, mask in masks.items()}
    return {name: set(rows.loc[rows[by].isin(keys), "id"]) for name, keys in known.items()}


def _nearly_seen(audit):
    """bool (n,): the image, or a near duplicate of it, is in train."""
    in_train = audit.loc[(audit["split"] == "train") & (audit["near_group"] >= 0), "near_group"]
    return audit["seen"] | audit["near_group"].isin(in_train)


def summary(audit, dataset):
    """Counts for a JSON file. Images seen in train are counted per evaluation split, by their very
    pixels and with near duplicates."""
    evaluation = audit.assign(near=_nearly_seen(audit))[audit["split"] != "train"]
    seen = evaluation.groupby("split", sort=False)[["seen", "near"]].sum()
    grouped = audit[audit["group"] >= 0]
    return {
        "dataset": dataset.name,
        "digest": dataset.digest,
        "images": len(audit),
        "source_sizes": dataset.sizes,
        "identity": dataset.identity,
        "blank": int(audit["blank"].sum()),
        "duplicate_groups": grouped["group"].nunique(),
        "duplicate_images": len(grouped),
        "groups_across_splits": grouped.loc[grouped["across_splits"], "group"].nunique(),
        "groups_conflicting": grouped.loc[grouped["conflicting"], "group"].nunique(),
        "near_duplicate_groups": audit.loc[audit["near_group"] >= 0, "near_group"].nunique(),
        "near_duplicate_images": int((audit["near_group"] >= 0).sum()),
        "evaluation_images_seen_in_train": {split: int(n) for split, n in seen["seen"].items()},
        "evaluation_images_nearly_seen_in_train": {
            split: int(n) for split, n in seen["near"].items()
        },
    }


def statistics(audit):
    """DataFrame, a row per class and split: label, split, n, mean and std of all pixel values, and
    the mean of the darkest and of the brightest image."""

    def row(images):
        means = images["mean"]
        mean, power = means.mean(), (images["std"] ** 2 + means**2).mean()
        std = max(power - mean**2, 0) ** 0.5
        extremes = {"min_image_mean": means.min(), "max_image_mean": means.max()}
        return pd.Series({"n": len(images), "mean": mean, "std": std} | extremes)

    table = audit.groupby(["label", "split"])[["mean", "std"]].apply(row).reset_index()
    return table.astype({"n": int})


def _measured(faces):
    """(mean, std of the pixels, float64 (n,); thumbnails), all from exact integer sums.

    Thumbnails are of zero mean and length 1, float64 (n, 144): a dot product is a correlation.
    """
    n, step = len(faces), SIZE // THUMBNAIL
    total, power = np.empty(n, np.int64), np.empty(n, np.int64)
    small = np.empty((n, THUMBNAIL**2))
    for start in range(0, n, BLOCK):
        pixels, rows = faces[start : start + BLOCK].astype(np.uint16), slice(start, start + BLOCK)
        total[rows] = pixels.sum((1, 2), dtype=np.uint32)
        power[rows] = (pixels * pixels).sum((1, 2), dtype=np.uint32)  # 255 * 255 is a uint16
        strips = sum(pixels[:, i::step] for i in range(step))
        small[rows] = sum(strips[:, :, i::step] for i in range(step)).reshape(-1, THUMBNAIL**2)
    count = SIZE * SIZE
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-9)
    return total / count, np.sqrt(count * power - total**2) / count, small


def _near(thumbnails, same, threshold):
    """Group number of each image, (n,): the connected components of `equal pixels or
    correlated`."""
    n = len(thumbnails)
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    pairs = [(np.arange(n), first[inverse])]
    bounds = _bounds(thumbnails)
    with threadpool_limits(1, "blas"):  # in_threads has the threads
        blocks = ((thumbnails, bounds, top, threshold) for top in range(0, n, BLOCK))
        for block_pairs in in_threads(_pairs, blocks):
            pairs += block_pairs
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    links = coo_array((np.ones(len(first), bool), (first, second)), (n, n))
    return connected_components(links, directed=False)[1]


def _bounds(thumbnails):
    """float32 (n, 16): their dot products are at least the thumbnails'.

    The coordinates along the 15 axes on which thumbnails differ most, and the length of what is
    left: the dot product of two remainders is at most the product of their lengths.
    """
    axes = np.linalg.eigh(thumbnails.T @ thumbnails)[1][:, ::-1][:, :AXES]
    main = thumbnails @ axes
    rest = np.sqrt(np.maximum((thumbnails**2).sum(1) - (main**2).sum(1), 0))
    return np.concatenate([main, rest[:, None]], 1).astype(np.float32)


def _pairs(thumbnails, bounds, top, threshold):
    """[(rows, other rows)] of images correlated by at least `threshold`: a block by all from it on.

    Only what the float32 bound cannot rule out is compared in full, in float64.
    """
    pairs = []
    block = bounds[top : top + BLOCK]
    products = np.empty(len(block) * WIDE * BLOCK, np.float32)
    for left in range(top, len(bounds), WIDE * BLOCK):
        others = bounds[left : left + WIDE * BLOCK]
        bound = products[: len(block) * len(others)].reshape(len(block), -1)
        np.matmul(block, others.T, out=bound)
        near = np.flatnonzero(bound >= threshold - SLACK)
        if len(near):
            rows, columns = (np.unique(indices) for indices in np.divmod(near, len(others)))
            exact = thumbnails[top + rows] @ thumbnails[left + columns].T
            row, column = np.nonzero(exact >= threshold)
            pairs.append((rows[row] + top, columns[column] + left))
    return pairs


def _numbered(codes):
    """Group numbers from 0 in order of appearance, -1 for a group of one, int64 (n,)."""
    codes = pd.Series(codes)
    grouped = codes.where(codes.duplicated(keep=False))  # a group of one is missing, so -1
    return pd.factorize(grouped)[0]
