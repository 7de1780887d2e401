"""What the network sees in an epoch: order, augmentation, targets and weights.

Everything random derives from (seed, epoch, index), so an epoch can be repeated without the ones
before it.
"""

import numpy as np

from ferlab.data import augment, ferplus
from ferlab.data.prepare import prepared
from ferlab.files import UserError
from ferlab.training import schedule

ORDER, MIRROR, TRANSFORM, DROPOUT, MIX, LIGHT = range(
    6
)  # what a random stream is for; part of its key


def order(dataset, params, epoch):
    """Row numbers of one epoch, int64 (N,): a permutation, or with the balanced sampler N draws.

    Such draws take each class equally often, on average.
    """
    random = np.random.Generator(
        np.random.Philox(np.random.SeedSequence((params.seed, epoch, ORDER)))
    )
    if dataset.training.get("sampler") != "balanced":
        return random.permutation(len(dataset.faces))
    labels = dataset.labels
    share = 1 / np.bincount(labels, minlength=len(dataset.classes))[labels]
    return random.choice(len(labels), len(labels), p=share / share.sum())


def targets_of(dataset, labels):
    """What a network is to learn, float32 (N, classes), each row of sum 1.

    labels: `fer2013` for the class that the dataset names, `ferplus` for the shares of FER+'s votes
    (Barsoum et al. 2016, arXiv:1608.01041), where an image without votes has a row of zeros.
    """
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
            f"train.labels = 'ferplus': FER+ has votes on none of these images ({dataset.name} is "
            "not FER2013, or was not recognised as such); set train.labels: fer2013"
        )
    return dataset.where(known)


def batches(dataset, params, epoch):
    """Yield the batches of one epoch, augmented: faces, targets and weights of the loss.

    They are uint8 (n, side, side, 1), float32 (n, classes) and float32 (n,).
    """
    rows, labels, total = order(dataset, params, epoch), dataset.labels, len(dataset.faces)
    weights = np.asarray(
        dataset.training.get("class_weights", np.ones(len(dataset.classes))), np.float32
    )
    targets = targets_of(dataset, params.labels)
    # Alternating mirror: a random half of the images, the other half in the next epoch, so that two
    # epochs show each image both ways (Jordan 2024, arXiv:2404.00498).
    mirrored = (augment.parameters((params.seed, MIRROR), total)[:, 0] < 0.5) ^ bool(epoch % 2)
    uniforms = augment.parameters((params.seed, epoch, TRANSFORM), total)
    for start in range(0, total, params.batch_size):
        batch = rows[start : start + params.batch_size]
        faces = augment.apply(
            prepared(dataset.faces[batch], params.equalize),
            uniforms[start : start + params.batch_size],
            flip=mirrored[batch] & params.flip,
            rotation=params.rotation,
            shift=params.shift,
            zoom=params.zoom,
            erase=params.erase,
            side=schedule.side_of(params, epoch),
        )
        if params.light:
            faces = _relit(faces, params.light, (params.seed, epoch, LIGHT, start))
        mixed = faces, targets[batch], weights[labels[batch]]
        if params.mixup:
            mixed = _mixed(*mixed, params, (params.seed, epoch, MIX, start))
        yield mixed[0][..., None], *mixed[1:]


def _relit(faces, light, key):
    """Faces uint8 (n, h, w), each in another light: its contrast times a factor between
    1 / (1 + light) and 1 + light, then up to 80 * light gray levels brighter or darker.
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    factor = (1 + light) ** random.uniform(-1, 1, (len(faces), 1, 1))
    brighter = 80 * light * random.uniform(-1, 1, (len(faces), 1, 1))
    mean = faces.mean(axis=(1, 2), keepdims=True)
    return np.clip(np.rint(mean + factor * (faces - mean) + brighter), 0, 255).astype(np.uint8)


def _mixed(faces, targets, weights, params, key):
    """Each face with one other of its batch, the targets and weights in the same shares.

    The share of the other is drawn from Beta(mixup, mixup) and is at most one half (Zhang et al.
    2018, arXiv:1710.09412).
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    share = random.beta(params.mixup, params.mixup, len(faces)).astype(np.float32)
    share = np.minimum(share, 1 - share)

    def mix(values):
        part = share.reshape(-1, *[1] * (values.ndim - 1))
        return values + part * (np.roll(values, 1, axis=0) - values)

    return np.rint(mix(faces.astype(np.float32))).astype(np.uint8), mix(targets), mix(weights)
