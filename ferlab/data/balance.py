"""Changing the training images so that rare classes count; evaluation images keep their pixels."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd

from ferlab.data.augment import apply, parameters
from ferlab.data.dataset import SPLITS
from ferlab.files import UserError


def balance(dataset, settings, audit):
    """A new Dataset by `settings` (params.Balance): holdout, then drop_seen, then the strategy.

    audit: one row per image of `dataset` in its order, as ferlab.data.audit.audit gives it. A
    validation split that holdout has cut counts as an evaluation split for drop_seen. Raises
    UserError where a setting does not fit the dataset.
    """
    if list(audit["id"]) != list(dataset.table["id"]):
        raise UserError("data/audit.csv: describes other images than data/raw; run `dvc repro`")
    dataset = replace(dataset, source=dataset.digest, identity={})
    if settings.holdout:
        dataset = _holdout(dataset, settings.holdout, audit)
    if settings.drop_seen:
        dataset = _drop_seen(dataset, audit)
    return STRATEGIES[settings.strategy](dataset.ordered(), settings)


def counts_table(before, after):
    """DataFrame, a row for each split and class of either dataset: split, label, and the number of
    images before and after."""

    def counts(dataset):
        return dataset.table.groupby(["split", "label"]).size()

    splits = [split for split in SPLITS if split in {*before.table["split"], *after.table["split"]}]
    labels = sorted({*before.classes, *after.classes})
    every = pd.MultiIndex.from_product([splits, labels], names=["split", "label"])
    table = pd.DataFrame({"before": counts(before), "after": counts(after)})
    return table.reindex(every).fillna(0).astype(int).reset_index()


def held_out(before, after):
    """What holdout really cut, on one line: of all training images, and the least and the most of
    a class."""
    train = before.table[before.table["split"] == "train"]
    held = train["id"].isin(after.table.loc[after.table["split"] == "validation", "id"])
    shares = 100 * held.groupby(train["label"]).mean()
    return (
        f"{held.sum():,} of {len(train):,} training images became validation "
        f"({100 * held.mean():.1f} %, of a class {shares.min():.1f} to {shares.max():.1f} %); "
        "duplicates and near duplicates stay together"
    )


def together(audit):
    """int (n,): equal for images that no cut may part. Blank images have no near group."""
    near, same = audit["near_group"].to_numpy(), audit["group"].to_numpy()
    n = len(audit)
    return np.where(near >= 0, near, np.where(same >= 0, n + same, 2 * n + np.arange(n)))


def whole_groups(rows, labels, keys, left):
    """Those of `rows` that are taken: groups of equal keys, whole, in the order of their first row.

    labels, keys: of every row. left: how many images of each label may still be taken, a Counter,
    counted down. A group that does not fit any more is passed over for the next.
    """
    groups, taken = defaultdict(list), []
    for row in rows:
        groups[keys[row]].append(row)
    for group in groups.values():
        sizes = Counter(labels[group])  # more than one label where they contradict each other
        if all(n <= left[label] for label, n in sizes.items()):
            left.subtract(sizes)
            taken += group
    return taken


def _holdout(dataset, share, audit):
    """Move up to int(share*n) training images of each class to `validation`: the first by id as
    text, but groups of duplicates and near duplicates whole or not at all.

    Without the groups this is the rule of Keras' directory iterator (`validation_split`), which
    sorts a class folder's file names; at 0.2 that left 357 of FER2013's 5,741 validation images
    with their very pixels in train. A group that does not fit any more is passed over for the next.
    """
    table = dataset.table
    if (table["split"] == "validation").any():
        raise UserError(
            f"balance.holdout = {share}: this dataset already has a validation split; set it to 0.0"
        )
    train = table[table["split"] == "train"]  # canonical order: by id as text
    left = Counter({label: int(share * n) for label, n in train["label"].value_counts().items()})
    labels = table["label"].to_numpy(object)
    cut = whole_groups(train.index, labels, together(audit), left)
    if not cut:
        raise UserError(
            f"balance.holdout = {share}: cuts no image: each class is too small, or made of near "
            "duplicates; raise it, or raise eda.near_duplicate"
        )
    table = table.copy()
    table.loc[cut, "split"] = "validation"
    return replace(dataset, table=table)  # the rows stay where the audit has them


def _drop_seen(dataset, audit):
    """Without the training images whose pixels also stand in another split."""
    group = audit["group"].to_numpy()
    train = (dataset.table["split"] == "train").to_numpy()
    return dataset.where(~(train & (group >= 0) & np.isin(group, group[~train])))


def _none(dataset, settings):
    """The images as they are."""
    return dataset


def _augment(dataset, settings):
    """Grow the chosen classes to the target: the k-th image made from image `id` is `id+k`, drawn
    from (seed, id, k)."""
    sources = _sources(dataset, settings)
    if not len(sources):
        return dataset
    table = dataset.table.iloc[sources].reset_index(drop=True)
    turn = table.groupby("id").cumcount() + 1
    keys = ((settings.seed, image_id, k) for image_id, k in zip(table["id"], turn, strict=True))
    faces = apply(
        dataset.faces[sources],
        np.concatenate([parameters(key, 1) for key in keys]),
        flip=settings.flip,
        rotation=settings.rotation,
        shift=settings.shift,
        zoom=settings.zoom,
    )
    table = table.assign(origin=table["id"], id=table["id"] + "+" + turn.astype(str))
    if taken := {*table["id"]} & {*dataset.table["id"]}:
        raise UserError(f"balance: an augmented image would be called {min(taken)}, as another is")
    return replace(
        dataset,
        faces=np.concatenate([dataset.faces, faces]),
        table=pd.concat([dataset.table, table], ignore_index=True),
    ).ordered()


def _sources(dataset, settings):
    """Rows of the training images that new ones are made from, one for each new one, int (n,)."""
    counts = _training_counts(dataset)
    present = counts[counts > 0]
    for name in settings.classes:
        if name not in present:
            known = ", ".join(present.index)
            raise UserError(
                f"balance.classes: {name} has no training images in this dataset; "
                f"choose from {known}"
            )
    targets = {"median": present.median(), "max": present.max()}
    target = int(targets.get(settings.target, settings.target))
    train = (dataset.table["split"] == "train").to_numpy()
    sources = [np.zeros(0, int)]
    for name in dict.fromkeys(settings.classes):
        rows = np.flatnonzero(train & (dataset.table["label"] == name).to_numpy())
        sources.append(np.resize(rows, max(target - len(rows), 0)))
    return np.concatenate(sources)


def _merge(dataset, settings):
    """Disgust counts as angry in every split: six classes."""
    if "disgust" not in dataset.classes:
        raise UserError(
            "balance.strategy = 'merge': this dataset has no class disgust; choose none"
        )
    classes = tuple(sorted({*dataset.classes, "angry"} - {"disgust"}))
    table = dataset.table.assign(label=dataset.table["label"].replace("disgust", "angry"))
    return replace(dataset, classes=classes, table=table)


def _weights(dataset, settings):
    """Class weights n / (k * n_c), scikit-learn's "balanced": the images' mean weight is 1."""
    counts = _training_counts(dataset)
    if not counts.all():
        raise UserError(
            f"balance.strategy = 'weights': {counts.idxmin()} has no training images; choose none"
        )
    weights = counts.sum() / (len(counts) * counts)
    return replace(dataset, training={"class_weights": weights.tolist()})


def _sampler(dataset, settings):
    """Every class equally often in an epoch: left to training (training.batches)."""
    return replace(dataset, training={"sampler": "balanced"})


STRATEGIES = {
    "none": _none,
    "augment": _augment,
    "merge": _merge,
    "weights": _weights,
    "sampler": _sampler,
}


def _training_counts(dataset):
    """Training images per class, a Series in the order of the classes."""
    labels = dataset.table.loc[dataset.table["split"] == "train", "label"]
    return labels.value_counts().reindex(list(dataset.classes), fill_value=0)
