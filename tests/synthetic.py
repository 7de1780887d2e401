"""Small datasets of random images for tests, and a workspace that holds one."""

import numpy as np

from ferlab.data.dataset import assemble
from tests.repository import TOP


def make(per_class, seed=0, splits=("train", "public", "private")):
    """A Dataset of random images, no two equal.

    per_class: class name -> how many images in each of `splits`: one number for all, or one each.
    """
    rows = [
        # no leading zeros: as text, 10 is before 9
        (f"{label}/{split.capitalize()}_{number}", label, split)
        for label, counts in per_class.items()
        for split, count in zip(splits, np.broadcast_to(counts, len(splits)), strict=True)
        for number in range(1, count + 1)
    ]
    faces = np.random.default_rng(seed).integers(0, 256, (len(rows), 48, 48), dtype=np.uint8)
    ids, labels, places = zip(*rows, strict=True)
    return assemble("synthetic", sorted(per_class), faces, ids, labels, places)


def trainable(folder, monkeypatch, per_class, epochs, batch_size):
    """Make `folder` a workspace, and the working directory, with a store of its own.

    Its data are two classes that brightness tells apart.
    """
    dataset = make(per_class)
    dataset.faces[dataset.labels == 1] //= 3
    dataset.save(folder / "data/balanced")
    text = (TOP / "params.yaml").read_text()
    for old, new in (
        ("epochs: 12", f"epochs: {epochs}"),
        ("batch_size: 128", f"batch_size: {batch_size}"),
        ("low_resolution: 0.5", "low_resolution: 0.0"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    (folder / "reports").mkdir()
    for name in ("ferlab", "stages"):
        (folder / name).symlink_to(TOP / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return folder
