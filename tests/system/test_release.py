"""The released model: the pinned one, small, with a true card."""

import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ferlab import files, recipes
from ferlab.data.readers import sources
from ferlab.evaluation import inference
from ferlab.files import UserError
from ferlab.serving import model_lookup, release
from ferlab.serving.predictor import Predictor

ABOUT = files.read_json(model_lookup.RELEASED / "model.json")


def test_the_released_model_is_the_pinned_one_and_its_card_says_what_was_measured():
    content = (model_lookup.RELEASED / "model.keras").read_bytes()
    key = ABOUT["recipe"]
    metrics, details, _, _ = recipes.read_result(key)
    assert len(content) == ABOUT["bytes"] <= release.MAX_BYTES
    assert hashlib.sha256(content).hexdigest() == ABOUT["sha256"]
    onnx = (model_lookup.RELEASED / "model.onnx").read_bytes()
    assert len(onnx) == ABOUT["onnx"]["bytes"] <= release.MAX_BYTES
    assert hashlib.sha256(onnx).hexdigest() == ABOUT["onnx"]["sha256"]
    assert ABOUT["sha256"].encode() in onnx  # of the network that it was made from
    assert hashlib.md5(content).hexdigest() == ABOUT["md5"] == release.pinned(key)
    assert {name: metrics[name] for name in metrics if name.startswith("private_accuracy")} == {
        name: value for name, value in ABOUT.items() if name.startswith("private_accuracy")
    }
    assert ABOUT["dataset"] == details["dataset"] == "fer2013"
    assert (model_lookup.RELEASED / "README.md").read_text() == release.card(
        key, details, recipes.frozen(recipes.pinned(key), recipes.recipe_of(key)[0])
    )


def test_a_changed_model_is_refused(tmp_path, monkeypatch):
    for name in ("model.keras", "model.json"):
        (tmp_path / name).write_bytes((model_lookup.RELEASED / name).read_bytes())
    (tmp_path / "model.keras").write_bytes(b"another")
    monkeypatch.setattr(model_lookup, "RELEASED", tmp_path)
    with pytest.raises(UserError, match="not the released model"):
        Predictor("", "none")


def test_an_onnx_file_that_is_too_large_leaves_both_files_as_they_were(tmp_path, monkeypatch):
    folder = tmp_path / "pretrained"
    shutil.copytree(model_lookup.RELEASED, folder)
    monkeypatch.setattr(model_lookup, "RELEASED", folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    large = bytes(release.MAX_BYTES + 1)
    monkeypatch.setattr(release.export, "export", lambda name, kind, out: out.write_bytes(large))
    with pytest.raises(UserError, match="model.onnx: has 3,000,001 bytes"):
        release.release()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.slow
def test_the_onnx_file_is_what_release_makes_of_the_keras_file(tmp_path, monkeypatch):
    import onnx
    from onnx import numpy_helper

    committed = (model_lookup.RELEASED / "model.onnx").read_bytes()
    for name in ("model.keras", "model.json"):
        (tmp_path / name).write_bytes((model_lookup.RELEASED / name).read_bytes())
    monkeypatch.setattr(model_lookup, "RELEASED", tmp_path)
    release.release()
    made = (tmp_path / "model.onnx").read_bytes()
    assert files.read_json(tmp_path / "model.json")["onnx"]["bytes"] == len(made) == len(committed)
    if made == committed:
        assert files.read_json(tmp_path / "model.json") == ABOUT
        return
    # another kind of processor folds constants with other last bits
    ours, theirs = (onnx.load_model_from_string(each).graph for each in (made, committed))
    assert list(ours.node) == list(theirs.node)
    for one, other in zip(ours.initializer, theirs.initializer, strict=True):
        arrays = numpy_helper.to_array(one), numpy_helper.to_array(other)
        np.testing.assert_allclose(*arrays, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FER2013"), reason="FER2013 names no copy of the real data")
def test_the_released_model_reaches_its_stated_accuracies_on_fer2013():
    private = sources.read("fer2013")[0].split("private")
    faces, near = np.asarray(private.faces), 0.002  # another processor may decide a few otherwise
    predictor = Predictor("", "none")
    as_used = (predictor.probabilities(faces).argmax(axis=1) == private.labels).mean()
    [stated] = re.findall(r"([\d.]+) % as it is used", Path("docs/use.md").read_text())
    assert abs(as_used - float(stated) / 100) < near
    key = ABOUT["recipe"]
    views = recipes.frozen(recipes.pinned(key), recipes.recipe_of(key)[0]).evaluate
    ten = inference.predict(predictor.network, faces, flip=views.flip, shift=views.shift)
    assert abs((ten.argmax(axis=1) == private.labels).mean() - ABOUT["private_accuracy"]) < near


@pytest.fixture
def releasing(tmp_path, monkeypatch):
    """A folder to release into, which holds the file `old`; the ONNX file is not really made."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "old").write_text("old")
    fetched = model_lookup.RELEASED / "model.keras"
    monkeypatch.setattr(model_lookup, "fetch", lambda key, path: shutil.copy(fetched, path))
    monkeypatch.setattr(model_lookup, "RELEASED", folder)
    monkeypatch.setattr(release.export, "export", lambda name, kind, out: out.write_bytes(b"onnx"))
    return folder


def test_a_release_is_the_pinned_model_with_its_numbers_and_its_card(releasing):
    release.release(ABOUT["recipe"])
    assert {file.name for file in releasing.iterdir()} == {
        *("model.keras", "model.onnx", "model.json", "README.md")
    }
    onnx = {"sha256": hashlib.sha256(b"onnx").hexdigest(), "bytes": 4}
    assert files.read_json(releasing / "model.json") == ABOUT | {"onnx": onnx}
    assert files.md5(releasing / "model.keras") == ABOUT["md5"]
    assert f"[{ABOUT['recipe']}](" in (releasing / "README.md").read_text()


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("ho_2016", {}, "ho_2016: knows 6 classes; a released model must know FER2013's 7"),
        ("speedrun", {}, "speedrun: its model has the md5 .*, recipes/dvc.lock says "),
        (ABOUT["recipe"], {"MAX_BYTES": 100}, "its model has .* bytes; a released one has at most"),
        (ABOUT["recipe"], {"MAX_BYTES": 2_900_000}, "model.onnx: has 3,000,000 bytes; a released"),
    ],
)
def test_what_may_not_be_released_leaves_the_old_one(releasing, monkeypatch, key, change, said):
    for name, value in change.items():
        monkeypatch.setattr(release, name, value)
    monkeypatch.setattr(
        release.export, "export", lambda name, kind, out: out.write_bytes(bytes(3_000_000))
    )
    with pytest.raises(UserError, match=said):
        release.release(key)
    assert [file.name for file in releasing.iterdir()] == ["old"]
