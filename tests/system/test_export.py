"""What `python -m ferlab export` writes gives what Keras gives, whatever the network, and nothing
is written that does not.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ferlab import __main__, files, models
from ferlab.data import prepare
from ferlab.data.classes import CLASSES
from ferlab.evaluation.network.about import About
from ferlab.serving import export, export_formats
from ferlab.training import backend, model_file
from tests.builders import usable
from tests.repository import TOP

NETWORKS = ("small", "vgg", "resnet", "vit", "silva_2025")
ABOUT = {"classes": list(CLASSES), "model": "x"}
FACES = (
    np.random.default_rng(1)
    .integers(0, 256, (256, 8, 8, 1), dtype=np.uint8)
    .repeat(6, axis=1)
    .repeat(6, axis=2)
)


def quick(names, kept):
    """The names as parameters, those not in `kept` in the slow suite."""
    return [name if name in kept else pytest.param(name, marks=pytest.mark.slow) for name in names]


def untrained(name, precision="float32", classes=CLASSES):
    """A network whose probabilities depend on the face: with statistics, scales and biases as if it
    were trained.
    """
    keras = backend.start("tensorflow", precision)
    network, random = models.build(name, len(classes), 0.1), np.random.default_rng(0)
    for variable in network.variables:
        if variable.name in ("beta", "bias", "gamma", "moving_mean", "moving_variance"):
            variable.assign(
                abs(
                    random.normal(
                        variable.name in ("gamma", "moving_variance"), 0.3, variable.shape
                    )
                )
            )
    last = network.get_layer("logits")
    logits = np.asarray(keras.Model(network.input, last.output)(FACES))
    scale = 0.4 / logits.std(axis=0)
    last.kernel.assign(last.kernel * scale)
    last.bias.assign((last.bias - logits.mean(axis=0)) * scale)
    return network


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.keras"
    model_file.save(untrained("small"), path, usable())
    return path


def greatest(run, network):
    """The greatest difference between a runtime and Keras, in batches of several sizes."""
    expected = np.asarray(network(FACES))
    assert expected.std(axis=0).min() > 0.02  # else equality would mean nothing
    return max(np.abs(run(FACES[:n]) - expected[:n]).max() for n in (256, 1, 7))


@pytest.mark.parametrize("name", quick(NETWORKS, ("small",)))
def test_onnx_equals_keras(name, tmp_path):
    network, path = export_formats.in_float32(untrained(name)), tmp_path / "model.onnx"
    export_formats.write_onnx(network, ABOUT, path)
    assert greatest(export_formats.run_onnx(path), network) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_a_network_trained_on_equalised_faces_equalises_them_in_both_formats(form, tmp_path):
    network, path = export_formats.in_float32(untrained("small")), tmp_path / "model"
    write, _, run = export_formats.FORMATS[form]
    write(network, ABOUT, path, About(CLASSES, equalize=True))
    odd = FACES.copy()
    odd[0], odd[1], odd[2] = 77, 0, odd[2] // 9 + 100  # one level only, black, few levels
    found = run(path)(odd)
    wanted = np.asarray(network(prepare.prepared(odd[..., 0], True)[..., None]))
    assert np.abs(found - wanted).max() < 1e-4
    assert (
        np.abs(found - np.asarray(network(odd))).max() > 0.05
    )  # what was asked makes a difference


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_litert_equals_keras(name, tmp_path):
    network, path = export_formats.in_float32(untrained(name)), tmp_path / "model.tflite"
    export_formats.write_litert(network, ABOUT, path)
    assert greatest(export_formats.run_litert(path), network) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("format", export_formats.FORMATS)
def test_a_bfloat16_network_is_exported_in_float32(format, tmp_path):
    network, path = untrained("small", "bfloat16"), tmp_path / "model"
    write, _, run = export_formats.FORMATS[format]
    plain = export_formats.in_float32(network)
    write(plain, ABOUT, path)
    assert greatest(run(path), plain) < 1e-4
    assert 1e-4 < greatest(run(path), network) < 0.1
    assert all(
        np.array_equal(a, b)
        for a, b in zip(plain.get_weights(), network.get_weights(), strict=True)
    )


@pytest.mark.slow
def test_the_command_tells_size_equality_and_speed(small, tmp_path, monkeypatch, capsys):
    import onnxruntime

    monkeypatch.setattr(
        sys,
        "argv",
        ["ferlab", "export", "--model", str(small), "--out", str(tmp_path / "deep/small.onnx")],
    )
    __main__.main()
    said = capsys.readouterr().out
    assert "small.onnx: 2.7 MB; classes angry, disgust, " in said
    assert "equal to Keras in float32 on 256 faces" in said
    assert "onnxruntime  one face" in said
    assert "bfloat16" not in said
    session = onnxruntime.InferenceSession(tmp_path / "deep/small.onnx")
    (given,), (out,), about = (
        session.get_inputs(),
        session.get_outputs(),
        session.get_modelmeta().custom_metadata_map,
    )
    assert (given.name, given.type, given.shape) == ("faces", "tensor(uint8)", ["n", 48, 48, 1])
    assert (out.name, out.type, out.shape) == ("probabilities", "tensor(float)", ["n", 7])
    assert json.loads(about["classes"]) == list(CLASSES)
    assert about["model"] == "small.keras"
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["small.onnx"]


SHARED = """
import sys
from pathlib import Path
from ferlab.serving import export
for number in (1, 2):
    out = Path(f"{sys.argv[3]}-{number}{Path(sys.argv[4]).suffix}")
    export.export(sys.argv[1], sys.argv[2], out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", export.NAMES)
def test_an_export_has_the_same_bytes_each_time_and_in_each_process(format, small, tmp_path):
    for seed in ("1", "2"):
        out = tmp_path / seed / "out"
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SHARED, small, format, out, export.NAMES[format]]
        subprocess.run(command, cwd=TOP, env=environment, check=True, capture_output=True)
    found = [
        {
            str(path.relative_to(first)).replace(number, ""): path.read_bytes()
            for path in sorted(first.rglob("*"))
            if path.is_file() and number in str(path.relative_to(first))
        }
        for first in (tmp_path / "1", tmp_path / "2")
        for number in ("out-1", "out-2")
    ]
    assert found[0] and all(files == found[0] for files in found)


@pytest.mark.slow
@pytest.mark.parametrize("equalize", [False, True])
def test_an_onnx_file_of_the_same_network_has_the_same_bytes(equalize, tmp_path):
    for name in ("first", "second"):  # the second one's layers have other names
        network = export_formats.in_float32(untrained("small"))
        use = About(CLASSES, equalize=equalize)
        export_formats.write_onnx(network, ABOUT, tmp_path / name, use)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.slow
def test_litert_has_its_classes_beside_it(tmp_path, capsys):
    six = tuple(name for name in CLASSES if name != "disgust")
    model_file.save(untrained("small", "bfloat16", six), tmp_path / "six.keras", usable(six))
    export.export(str(tmp_path / "six.keras"), "litert", tmp_path / "six.tflite")
    assert json.loads((tmp_path / "six.tflite.json").read_text())["classes"] == list(six)
    said = capsys.readouterr().out
    assert "LiteRT       one face" in said
    assert "the model itself computes in bfloat16" in said


@pytest.mark.slow
def test_what_differs_from_keras_is_not_written(small, tmp_path, monkeypatch):
    def wrong(network, about, path, use):
        other = export_formats.in_float32(network)
        other.get_layer("logits").kernel.assign(1.01 * network.get_layer("logits").kernel)
        export_formats.write_onnx(other, about, path)

    monkeypatch.setitem(
        export_formats.FORMATS, "onnx", (wrong, *export_formats.FORMATS["onnx"][1:])
    )
    with pytest.raises(
        files.UserError, match="onnxruntime differs from Keras by .*; nothing was written"
    ):
        export.export(str(small), "onnx", tmp_path / "small.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_told_in_a_line(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    export.export(str(small), "onnx", tmp_path / "small.onnx")
    assert "not compared with Keras, as onnxruntime is not installed" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        files.UserError, match="tf2onnx is not installed; pip install .* requirements-use.txt"
    ):
        export.export(str(small), "onnx", tmp_path / "small.onnx")


def test_nothing_of_the_users_is_replaced(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("dear")
    (tmp_path / "mine.onnx").mkdir()
    for format, name, said in (
        ("mlflow", "mine", "is no MLflow model"),
        ("mlflow", "mine/letter", "is no MLflow model"),
        ("onnx", "mine", "ends in .onnx"),
        ("onnx", "mine.onnx", "ends in .onnx"),
        ("litert", "x.onnx", "ends in .tflite"),
    ):
        with pytest.raises(files.UserError, match=said):
            export.export(str(small), format, tmp_path / name)
    assert (tmp_path / "mine/letter").read_text() == "dear"
