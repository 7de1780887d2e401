"""The real FER2013 and CK+, where they are present, are known for what they are."""

import os

import numpy as np
import pytest

from ferlab.data.classes import CLASSES
from ferlab.data.readers import sources
from tests.builders import csv_text
from tests.forms import equal

pytestmark = pytest.mark.usefixtures("lab")
REAL = os.environ.get("FER2013", "")
FOLDERS = os.environ.get("FER2013_FOLDERS", "")
CK48 = os.environ.get("CK48", "")


@pytest.mark.skipif(not CK48, reason="needs CK+: set CK48 to its zip")
def test_ck48_is_dealt_into_splits_by_sequences_of_nearly_equal_frames():
    data, _ = sources.read(CK48)
    assert data.name.startswith("custom-") and "contempt" in data.classes
    sequence = data.table["id"].str.rpartition("_")[0]
    parted = data.table.groupby(sequence)["split"].nunique() > 1
    assert len(parted) == 327  # 309, and 18 of contempt
    assert parted.sum() <= 1  # one whose frames are further apart than near duplicates


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs the real images: set FER2013 to their zip")
def test_the_real_fer2013_is_known_in_another_order_too(tmp_path, monkeypatch):
    monkeypatch.setenv("FER2013", REAL)
    data, _ = sources.read("fer2013")
    assert data.name == sources.NAMES[data.digest] == "fer2013"
    assert not sources.difference(data)
    assert data.counts().sum().to_dict() == {"train": 28709, "public": 3589, "private": 3589}
    assert data.table["id"].is_unique and data.classes == CLASSES
    assert sorted(data.table["official"]) == list(range(35887))
    random = np.random.default_rng(0).permutation(len(data.faces))
    text = csv_text(data.where(random), ("emotion", " Usage", " pixels"))
    (tmp_path / "x.csv").write_text(text.replace("\n", "\r\n"))
    again, _ = sources.read(str(tmp_path / "x.csv"))
    assert equal(again, data) and again.table["official"].equals(data.table["official"])


@pytest.mark.slow
@pytest.mark.skipif(
    not FOLDERS, reason="needs Kaggle's class folders: set FER2013_FOLDERS to their zip"
)
def test_the_real_class_folders_are_known_for_what_they_are(monkeypatch):
    monkeypatch.setenv("FER2013", FOLDERS)
    data, _ = sources.read("fer2013")
    assert data.name == "fer2013-jpeg" and not sources.difference(data)
    assert data.identity["known"] == 35_887
    assert data.identity["changes"] == {"exact": 12, "lossy": 35_875}
    wrong = ("missing", "foreign", "repeated", "moved", "relabelled")
    assert not any(data.identity[name] for name in wrong)
