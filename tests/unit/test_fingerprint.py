"""A training resumes only from its own state: whatever decides its weights is part of the name under which that state is kept."""

import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ferlab.data.dataset import Dataset
from ferlab.training import fingerprint
from tests.conftest import REPOSITORY
from tests.synthetic import make

# Declared by the stage, but without a say in the weights: the class names come with the data; writing decides no content.
WITHOUT_A_SAY = {"ferlab/data/classes.py", "ferlab/files.py"}


@pytest.fixture
def balanced(tmp_path):
    make({"angry": 2, "happy": 2}).save(tmp_path / "balanced")
    return tmp_path / "balanced"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of ferlab, which may be changed, as the one whose code counts."""
    copy = tmp_path / "ferlab"
    shutil.copytree(Path(fingerprint.__file__).parents[1], copy)
    monkeypatch.setattr(fingerprint, "__file__", str(copy / "training/fingerprint.py"))
    return copy


def test_every_parameter_of_the_training_counts(settings, balanced):
    chosen = settings().train
    changed = {
        name: chosen.model_copy(
            update={name: {bool: not value, str: "vgg"}.get(type(value), 0.123)}
        )
        for name, value in chosen.model_dump().items()
        if name != "backend"
    }
    found = {
        name: fingerprint.fingerprint(section, Dataset.load(balanced))
        for name, section in changed.items()
    }
    assert fingerprint.fingerprint(chosen, Dataset.load(balanced)) == fingerprint.fingerprint(
        settings().train, Dataset.load(balanced)
    )
    assert (
        len({*found.values(), fingerprint.fingerprint(chosen, Dataset.load(balanced))})
        == len(found) + 1
    )


def test_images_labels_splits_and_class_weights_count(settings, tmp_path):
    first = make({"angry": 2, "happy": 2})
    other = make({"angry": 2, "happy": 2})
    other.faces[0, 0, 0] ^= 1
    labels, splits = first.where(range(len(first.faces))), first.where(range(len(first.faces)))
    labels.table.loc[0, "label"] = "happy"
    splits.table.loc[0, "split"] = "private"
    weighted = replace(first, training={"class_weights": [1.0, 2.0]})
    found = set()
    for number, dataset in enumerate((first, other, labels, splits, weighted)):
        dataset.save(tmp_path / str(number))
        found.add(fingerprint.fingerprint(settings().train, Dataset.load(tmp_path / str(number))))
    assert len(found) == 5


def test_the_order_of_the_images_counts_though_the_digest_does_not_know_it(settings, tmp_path):
    """Two faces of one class and split change places: the same dataset, but other batches."""
    first = make({"angry": 2, "happy": 2})
    other = replace(first, faces=first.faces[[1, 0, *range(2, len(first.faces))]])
    for number, dataset in enumerate((first, other)):
        dataset.save(tmp_path / str(number))
    assert first.digest == other.digest
    assert (
        len(
            {
                fingerprint.fingerprint(settings().train, Dataset.load(tmp_path / str(number)))
                for number in (0, 1)
            }
        )
        == 2
    )


def test_code_counts_that_the_stage_declares(settings, balanced, library):
    declared = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]["train"][
        "deps"
    ]
    files = {
        name.replace("${train.model}", "small") for name in declared if name.startswith("ferlab/")
    } - WITHOUT_A_SAY
    before = fingerprint.fingerprint(settings().train, Dataset.load(balanced))
    for name in files:
        path = library.parent / name
        content = path.read_bytes()
        path.write_bytes(content + b"\n# changed\n")
        assert fingerprint.fingerprint(settings().train, Dataset.load(balanced)) != before, name
        path.write_bytes(content)
    assert fingerprint.fingerprint(settings().train, Dataset.load(balanced)) == before


def test_versions_count(settings, balanced, monkeypatch):
    before, real = (
        fingerprint.fingerprint(settings().train, Dataset.load(balanced)),
        importlib.metadata.version,
    )
    for changed in ("keras", "numpy", "tensorflow"):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, other=changed: "0" if name == other else real(name),
        )
        assert fingerprint.fingerprint(settings().train, Dataset.load(balanced)) != before, changed
