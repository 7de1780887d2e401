"""A model carries what it needs to be right: how pixels were prepared, and its classes."""

import json
import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from ferlab import models
from ferlab.data import prepare
from ferlab.data.classes import CLASSES
from ferlab.evaluation import attention, inference
from ferlab.evaluation.network import loading
from ferlab.evaluation.network.about import About, read_about
from ferlab.files import UserError
from ferlab.serving.predictor import Predictor
from ferlab.training import backend, batches, loop, model_file
from tests.builders import tiny, usable

FACES = (
    np.random.default_rng(0).integers(60, 140, (6, 6, 6), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
)


def saved(path, classes=CLASSES, **about):
    """Save a network at `path`, with what `about` says of it, or nothing; returns it."""
    backend.start("tensorflow", seed=3)
    network = models.build("small", len(classes), 0.0)
    if about:
        about = usable(classes) | about
    model_file.save(network, path, about)
    return network


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(network, folder): one network saved as equal.keras, which equalises, and as plain.keras."""
    folder = tmp_path_factory.mktemp("models")
    saved(folder / "plain.keras", equalize=False)
    return saved(folder / "equal.keras", equalize=True), folder


@pytest.fixture(scope="module")
def loaded(pair):
    """The models equal.keras and plain.keras as they are loaded for use."""
    names = ("equal", "plain")
    return [loading.load(pair[1] / f"{name}.keras", "tensorflow", CLASSES) for name in names]


def test_equalising_is_opencvs_on_each_face_alone_and_else_nothing_happens():
    equal = prepare.prepared(FACES, True)
    assert (equal[2] == cv2.equalizeHist(FACES[2])).all() and equal.shape == FACES.shape
    assert prepare.prepared(FACES, False) is FACES
    assert prepare.prepared(FACES[0], True).shape == (48, 48) and prepare.prepared(
        FACES[:0], True
    ).shape == (0, 48, 48)


def test_the_file_says_how_the_network_is_used_and_predicting_goes_by_it(pair, loaded):
    (network, folder), (equal, plain) = pair, loaded
    assert equal.about == About(CLASSES, True, "fer2013", "x", "0" * 64)
    assert read_about(folder / "plain.keras").equalize is False
    expected = network.predict_on_batch(prepare.prepared(FACES, True)[..., None])
    np.testing.assert_allclose(inference.predict(equal, FACES), expected, atol=1e-5)
    unequalised = inference.predict(plain, FACES)
    np.testing.assert_allclose(unequalised, network.predict_on_batch(FACES[..., None]), atol=1e-5)
    assert np.abs(unequalised - expected).max() > 1e-4  # equalising makes a difference to it
    np.testing.assert_allclose(
        Predictor(str(folder / "equal.keras"), "none").probabilities(FACES),
        inference.predict(equal, FACES, flip=True),
        atol=1e-5,
    )


def test_what_is_explained_is_what_the_network_saw(loaded):
    equal, plain = loaded
    ready, classes = prepare.prepared(FACES, True), np.arange(6)
    heat = attention.hires_cam(equal, FACES, classes)
    np.testing.assert_allclose(heat, attention.hires_cam(plain, ready, classes), atol=1e-4)
    maps = attention.feature_maps(equal, FACES[0], "pools")
    for name, expected in attention.feature_maps(plain, ready[0], "pools").items():
        np.testing.assert_allclose(maps[name], expected, atol=1e-4)


def test_saving_is_the_same_bytes_and_keras_reads_the_file_as_ever(pair, tmp_path):
    import keras

    saved(tmp_path / "again.keras", equalize=True)
    assert (tmp_path / "again.keras").read_bytes() == (pair[1] / "equal.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "again.keras") as archive:
        assert json.loads(archive.read("ferlab.json"))["classes"] == list(CLASSES)
    assert keras.models.load_model(tmp_path / "again.keras").output_shape == (None, 7)


def test_training_sees_equalised_faces_and_scores_on_them(settings):
    data = replace(tiny(), name="x")
    still = {f"train.{name}": 0.0 for name in ("rotation", "shift", "zoom", "low_resolution")}
    chosen = settings(
        **still, **{"train.equalize": True, "train.flip": False, "train.batch_size": 4}
    ).train
    part = data.split("train")
    seen = np.concatenate([batch[0][..., 0] for batch in batches.batches(part, chosen, 0)])
    assert (seen == prepare.prepared(part.faces, True)[batches.order(part, chosen, 0)]).all()
    assert model_file.about(data, chosen) == {
        "classes": list(CLASSES),
        "equalize": True,
        "labels": "fer2013",
        "dataset": "x",
        "digest": data.digest,
    }

    class Seen:
        def predict_on_batch(self, faces):
            self.faces = faces[..., 0]
            return np.zeros((len(faces), 7))

    network = Seen()
    loop.evaluate(network, part, chosen)
    assert (network.faces == prepare.prepared(part.faces, True)).all()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A model file that says nothing of itself."""
    path = tmp_path_factory.mktemp("models") / "x.keras"
    saved(path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"classes": 3}',
        b'{"classes": ["a"], "equalize": "yes"}',
        b'{"classes": ["a"], "equalize": true, "run": "x"}',
    ],
)
def test_a_file_that_says_nonsense_of_itself_is_refused_in_one_line(content, bare, tmp_path):
    shutil.copy(bare, tmp_path / "x.keras")
    with zipfile.ZipFile(tmp_path / "x.keras", "a") as archive:
        archive.writestr("ferlab.json", content)
    with pytest.raises(UserError, match="x.keras: not a usable Keras model"):
        loading.load(tmp_path / "x.keras", "tensorflow")
