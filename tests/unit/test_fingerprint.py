"""A training resumes only from its own state, kept under a hash of all that decides its weights."""

import ast
import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ferlab.data.dataset import Dataset
from ferlab.training import fingerprint, loop, model_file
from tests.conftest import REPOSITORY
from tests.synthetic import make

# Used by a training, but without a say in the weights: the version's number, how files are written,
# and what is shown.
WITHOUT_A_SAY = {
    "ferlab/__init__.py",
    "ferlab/files.py",
    "ferlab/progress.py",
    "ferlab/training/callbacks.py",
}


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
    section, dataset = settings().train, Dataset.load(balanced)
    keys = {fingerprint.fingerprint(section, dataset)}
    assert keys == {fingerprint.fingerprint(settings().train, dataset)}
    names = [name for name in section.model_dump() if name != "backend"]
    for name in names:
        value = getattr(section, name)
        other = {bool: not value, str: "vgg"}.get(type(value), 0.123)
        keys.add(fingerprint.fingerprint(section.model_copy(update={name: other}), dataset))
    assert len(keys) == 1 + len(names)


def test_images_labels_splits_and_class_weights_count(settings, tmp_path):
    first = make({"angry": 2, "happy": 2})
    other = make({"angry": 2, "happy": 2})
    other.faces[0, 0, 0] ^= 1
    labels, splits = first.where(range(len(first.faces))), first.where(range(len(first.faces)))
    labels.table.loc[0, "label"] = "happy"
    splits.table.loc[0, "split"] = "private"
    weighted = replace(first, training={"class_weights": [1.0, 2.0]})
    keys = set()
    for number, dataset in enumerate((first, other, labels, splits, weighted)):
        dataset.save(tmp_path / str(number))
        keys.add(fingerprint.fingerprint(settings().train, Dataset.load(tmp_path / str(number))))
    assert len(keys) == 5


def test_the_order_of_the_images_counts_though_the_digest_does_not_know_it(settings, tmp_path):
    """Two faces of one class and split change places: the same dataset, but other batches."""
    first = make({"angry": 2, "happy": 2})
    other = replace(first, faces=first.faces[[1, 0, *range(2, len(first.faces))]])
    for number, dataset in enumerate((first, other)):
        dataset.save(tmp_path / str(number))
    assert first.digest == other.digest
    keys = {
        fingerprint.fingerprint(settings().train, Dataset.load(tmp_path / str(number)))
        for number in (0, 1)
    }
    assert len(keys) == 2


def imported(path):
    """The files of ferlab that a file of ferlab imports by name, package docstrings aside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("ferlab"):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                module = REPOSITORY / name.replace(".", "/")
                yield from (
                    file
                    for file in (module.with_suffix(".py"), module / "__init__.py")
                    if file.exists() and len(ast.parse(file.read_text()).body) > 1
                )


def used():
    """All files of ferlab that training and saving a model run, by what they import."""
    files, new = set(), {Path(loop.__file__), Path(model_file.__file__)}
    while new:
        files |= new
        new = {file for path in new for file in imported(path)} - files
    return {str(file.relative_to(REPOSITORY)) for file in files} - WITHOUT_A_SAY


def test_code_counts_that_a_training_runs_and_the_stage_declares(settings, balanced, library):
    stage = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]["train"]
    declared = {
        name.replace("${train.model}", "small")
        for name in stage["deps"]
        if name.startswith("ferlab/")
    }
    dataset = Dataset.load(balanced)
    before = fingerprint.fingerprint(settings().train, dataset)
    for name in used() | declared - WITHOUT_A_SAY:
        path = library.parent / name
        content = path.read_bytes()
        path.write_bytes(content + b"\n# changed\n")
        assert fingerprint.fingerprint(settings().train, dataset) != before, name
        path.write_bytes(content)
    assert fingerprint.fingerprint(settings().train, dataset) == before


def test_versions_count(settings, balanced, monkeypatch):
    before = fingerprint.fingerprint(settings().train, Dataset.load(balanced))
    real = importlib.metadata.version
    for changed in ("keras", "numpy", "tensorflow"):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, other=changed: "0" if name == other else real(name),
        )
        assert fingerprint.fingerprint(settings().train, Dataset.load(balanced)) != before, changed
