"""What decides the weights of a training, as one hash."""

import contextlib
import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np

from ferlab.training import backend


def data_key(dataset):
    """sha256 of all that a training takes from a dataset; equal keys train to equal weights.

    Unlike `Dataset.digest` it counts the order of the rows, and their ids.
    """
    key = hashlib.sha256(np.ascontiguousarray(dataset.faces))
    key.update(dataset.table.to_csv(index=False).encode())
    key.update(json.dumps([dataset.classes, dataset.training]).encode())
    return key.hexdigest()


# The files of ferlab/ that decide the bits of a training, beside that of its network.
CODE = (
    "assets/ferplus.csv.gz",
    "data/augment.py",
    "data/classes.py",
    "data/dataset.py",
    "data/ferplus.py",
    "data/prepare.py",
    "models/__init__.py",
    "training/backend.py",
    "training/batches.py",
    "training/checkpoint.py",
    "training/loop.py",
    "training/model_file.py",
    "training/network.py",
    "training/optimizers.py",
    "training/schedule.py",
)


def fingerprint(settings, dataset):
    """16 hex digits over what decides the weights: the train section, data, code and versions.

    With `precision: auto` it is the precision that this machine trains in which counts.
    A training resumes only from a state kept under its own fingerprint.
    """
    used = backend.precision_of(settings.precision, settings.backend)
    settings = settings.model_copy(update={"precision": used})
    digest = hashlib.sha256(settings.model_dump_json().encode())
    digest.update(data_key(dataset).encode())
    library = Path(__file__).parents[1]
    for name in (*CODE, f"models/{settings.model}.py"):
        digest.update((library / name).read_bytes())
    versions = {
        name: importlib.metadata.version(name)
        for name in ("keras", "numpy", "opencv-python-headless")
    }
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions[settings.backend] = importlib.metadata.version(settings.backend)
    digest.update(json.dumps(versions).encode())
    return digest.hexdigest()[:16]
