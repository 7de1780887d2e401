"""What the network sees in an epoch: order, augmentation, targets and weights.

Everything random derives from (seed, epoch, index), so an epoch can be repeated without the ones before it.
"""

import numpy as np

from ferlab.data import augment, ferplus
from ferlab.data.prepare import prepared
from ferlab.files import UserError
from ferlab.training import schedule

ORDER, MIRROR, TRANSFORM, DROPOUT = range(4)  # what a random stream is for; part of its key


def order(dataset, params, epoch):
    """Row numbers of one epoch, int64 (N,): a permutation, or with the balanced sampler N draws, classes equally often."""
    random = np.random.Generator(
        np.random.Philox(np.random.SeedSequence((params.seed, epoch, ORDER)))
    )
    if dataset.training.get("sampler") != "balanced":
        return random.permutation(len(dataset.faces))
    labels = dataset.labels
    share = 1 / np.bincount(labels, minlength=len(dataset.classes))[labels]
    return random.choice(len(labels), len(labels), p=share / share.sum())


def targets_of(dataset, labels):
    """What a network is to learn, float32 (N, classes), each row of sum 1: `fer2013` is the class that the dataset names,
    `ferplus` the shares of FER+'s votes; there a row of zeros is an image without votes (see `supervised`)."""
    if labels == "ferplus":
        return ferplus.soft_targets(dataset.table["official"], dataset.classes)
    return np.eye(len(dataset.classes), dtype=np.float32)[dataset.labels]


def supervised(dataset, labels):
    """The rows of `dataset` that have a target. Raises UserError where FER+ knows none of them."""
    if labels != "ferplus" or not len(dataset.faces):
        return dataset
    known = targets_of(dataset, labels).any(axis=1)
    if not known.any():
        raise UserError(
            f"train.labels = 'ferplus': FER+ has votes on none of these images ({dataset.name} is not FER2013, or "
            "not known for it); set train.labels: fer2013"
        )
    return dataset.where(known)


def batches(dataset, params, epoch):
    """Yield (faces uint8 (n, side, side, 1), targets float32 (n, classes), weights float32 (n,)) of one epoch, augmented."""
    rows, labels, total = order(dataset, params, epoch), dataset.labels, len(dataset.faces)
    weights = np.asarray(
        dataset.training.get("class_weights", np.ones(len(dataset.classes))), np.float32
    )
    targets = targets_of(dataset, params.labels)
    # Alternating mirror: a random half of the images, the other half in the next epoch, so that none is seen twice alike
    # (Jordan 2024, arXiv:2404.00498).
    mirrored = (augment.parameters((params.seed, MIRROR), total)[:, 0] < 0.5) ^ bool(epoch % 2)
    uniforms = augment.parameters((params.seed, epoch, TRANSFORM), total)
    for start in range(0, total, params.batch_size):
        here = rows[start : start + params.batch_size]
        faces = augment.apply(
            prepared(dataset.faces[here], params.equalize),
            uniforms[start : start + params.batch_size],
            flip=mirrored[here] & params.flip,
            rotation=params.rotation,
            shift=params.shift,
            zoom=params.zoom,
            erase=params.erase,
            side=schedule.side_of(params, epoch),
        )
        yield faces[..., None], targets[here], weights[labels[here]]
