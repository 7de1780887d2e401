"""What the tests of reading share: an empty checkout, and few images to compare a copy with."""

import numpy as np
import pandas as pd
import pytest

from ferlab.data.identity import fingerprints
from ferlab.data.readers import sources
from tests.builders import tiny
from tests.forms import DATA


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """An empty checkout that is the working directory; no setting of the real machine reaches
    it."""
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    for name in ("DVC_ROOT", "FER2013", "FERLAB_KAGGLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "lab"


@pytest.fixture(scope="session")
def few_fingerprints():
    """Fingerprints of the tiny dataset, and of a hundred images that no test reads."""
    others = tiny(train=14, seed=99)
    table = pd.concat([DATA.table, others.table])
    faces = np.concatenate([DATA.faces, others.faces])
    return fingerprints.restored(fingerprints.make(faces, table["label"], table["split"]))


@pytest.fixture
def few_official(few_fingerprints, monkeypatch):
    """The official images are few, so that a copy is compared with them in no time."""
    monkeypatch.setattr(fingerprints, "read", lambda: few_fingerprints)


@pytest.fixture
def small_fer2013(monkeypatch):
    """Let the tiny dataset stand for the published one."""
    counts = {split: tuple(DATA.counts()[split]) for split in ("train", "public", "private")}
    monkeypatch.setattr(sources, "FER2013_COUNTS", counts)
    monkeypatch.setattr(sources, "NAMES", {DATA.digest: "fer2013"})
