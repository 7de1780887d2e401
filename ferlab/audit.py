"""What is wrong with the images: exact and near duplicates, contradicting labels, leaks into train, blanks."""

import hashlib

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ferlab.dataset import SIZE

BLANK = 2  # pixel standard deviation below which an image shows nothing (FER2013 has 12 such images)
THUMBNAIL = 12
BLOCK = 2048  # images compared at once: 16 MiB of correlations


def audit(dataset, near_duplicate):
    """DataFrame, one row per image in the dataset's order:

    id, split, label, official: as in the dataset's table.
    mean, std: of the pixels (0 to 255), rounded to 4 places. blank: std < 2.
    group: number of the exact-duplicate group (equal pixels), -1 where the image is unique.
    near_group: the same for near duplicates, images linked, directly or through others, by equal pixels or by a
      correlation of their 12x12 thumbnails of at least `near_duplicate`; blank images belong to none.
    across_splits: the exact group spans two or more splits. conflicting: it carries more than one label.
    seen: it holds both a training image and an evaluation image (true for every image of such a group).
    """
    faces = dataset.faces
    chunks = [faces[start:start + BLOCK].astype(np.float64) for start in range(0, len(faces), BLOCK)]
    mean = np.concatenate([chunk.mean((1, 2)) for chunk in chunks])
    std = np.concatenate([chunk.std((1, 2)) for chunk in chunks])
    blank = std < BLANK
    same = pd.factorize(np.array([hashlib.sha256(face).digest() for face in faces], dtype=object))[0]
    near = np.full(len(faces), -1)
    thumbnails = np.concatenate([_thumbnails(chunk) for chunk in chunks])
    near[~blank] = _numbered(_near(thumbnails[~blank], same[~blank], near_duplicate))
    table = dataset.table[["id", "split", "label", "official"]].assign(
        mean=mean.round(4), std=std.round(4), blank=blank, group=_numbered(same), near_group=near)
    groups = table.groupby(same)
    return table.assign(across_splits=groups["split"].transform("nunique") > 1,
                        conflicting=groups["label"].transform("nunique") > 1,
                        seen=(table["split"] == "train").groupby(same).transform("nunique") > 1)


def read(path):
    """The audit as it was written to `path` as CSV."""
    types = {"id": str, "split": str, "label": str, "official": int}
    return pd.read_csv(path, dtype=types, keep_default_na=False)


def leaked(path):
    """Ids of the private images whose very pixels stand in the training split as well, from the audit at `path`."""
    table = read(path)
    return set(table.loc[table["seen"] & (table["split"] == "private"), "id"])


def summary(audit, dataset):
    """Counts for a JSON file. Images seen in train are told per evaluation split."""
    evaluation = audit[audit["split"] != "train"]
    seen = evaluation.groupby("split", sort=False)["seen"].sum()
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
        "evaluation_images_seen_in_train": {split: int(n) for split, n in seen.items()},
    }


def statistics(audit):
    """DataFrame per class and split: n, mean and std of all pixel values, darkest and brightest image's mean."""
    def row(images):
        mean, power = images["mean"].mean(), (images["std"] ** 2 + images["mean"] ** 2).mean()
        return pd.Series({"n": len(images), "mean": mean, "std": max(power - mean ** 2, 0) ** 0.5,
                          "min_image_mean": images["mean"].min(), "max_image_mean": images["mean"].max()})
    table = audit.groupby(["label", "split"])[["mean", "std"]].apply(row).reset_index()
    return table.astype({"n": int})


def _thumbnails(faces):
    """Zero-mean thumbnails of length 1, float32 (n, 144): their dot product is the correlation."""
    step = SIZE // THUMBNAIL
    small = faces.reshape(-1, THUMBNAIL, step, THUMBNAIL, step).mean((2, 4)).reshape(-1, THUMBNAIL ** 2)
    small = small - small.mean(1, keepdims=True)
    return (small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _near(thumbnails, same, threshold):
    """Group number of each image, (n,): the connected components of `equal pixels or correlated`."""
    n = len(thumbnails)
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    pairs = [(np.arange(n), first[inverse])]
    for top in range(0, n, BLOCK):
        for left in range(top, n, BLOCK):
            close = thumbnails[top:top + BLOCK] @ thumbnails[left:left + BLOCK].T >= threshold
            one, other = np.divmod(np.flatnonzero(close), close.shape[1])
            pairs.append((one + top, other + left))
    one, other = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return connected_components(coo_array((np.ones(len(one), bool), (one, other)), (n, n)), directed=False)[1]


def _numbered(codes):
    """Group numbers from 0 in order of appearance, -1 for a group of one, int64 (n,)."""
    codes = pd.Series(codes)
    numbers, _ = pd.factorize(codes.where(codes.duplicated(keep=False)))  # what is not in a group is missing, so -1
    return numbers
