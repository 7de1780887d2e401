"""Small datasets of random images for tests."""

import numpy as np

from ferlab.dataset import assemble


def make(per_class, seed=0, splits=("train", "public", "private")):
    """A Dataset of random images, no two equal.

    per_class: class name -> how many images in each of `splits`, one number for all or one per split.
    """
    rows = [(f"{label}/{split.capitalize()}_{number}", label, split)  # no leading zeros: as text, 10 is before 9
            for label, counts in per_class.items()
            for split, count in zip(splits, np.broadcast_to(counts, len(splits)), strict=True)
            for number in range(1, count + 1)]
    faces = np.random.default_rng(seed).integers(0, 256, (len(rows), 48, 48), dtype=np.uint8)
    ids, labels, places = zip(*rows, strict=True)
    return assemble("synthetic", sorted(per_class), faces, ids, labels, places)
