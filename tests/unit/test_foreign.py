"""Model files that others made: used as they say, or as the user says; else refused in one line."""

import json

import numpy as np
import pytest

from ferlab import __main__, files, params
from ferlab.data.classes import CLASSES as FER2013
from ferlab.evaluation import inference
from ferlab.evaluation.network import loading
from ferlab.evaluation.network.about import About, read_about
from ferlab.files import UserError
from ferlab.serving import analyzer, export
from ferlab.serving.predictor import Predictor
from ferlab.training import backend, model_file
from tests.builders import image, usable

CLASSES = ("angry", "happy", "sad")
FACES = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)


def network(shape=(48, 48, 1), end="softmax", outputs=3):
    """A network that wants gray levels from 0 to 1, as most public ones do, and does not say so."""
    keras = backend.start("tensorflow", seed=1)
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(outputs, end)]
    made = keras.Sequential(layers)
    made.layers[-1].kernel.assign(made.layers[-1].kernel * 3)
    return made


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A file as `model.save` writes it."""
    path = tmp_path_factory.mktemp("foreign") / "public.keras"
    network().save(path)
    return path


def test_a_file_that_says_nothing_of_its_use_is_used_only_as_the_user_says(foreign):
    with pytest.raises(UserError, match="public.keras: says neither its classes nor how") as told:
        Predictor(str(foreign), "none")
    assert "--classes <name>,<name>,... --scaling <one of raw, unit, signed>" in str(told.value)
    for scaling, factor, offset in (("unit", 1 / 255, 0), ("signed", 2 / 255, -1), ("raw", 1, 0)):
        said = About(classes=CLASSES, scaling=scaling)
        given = inference.predict(Predictor(str(foreign), "none", said).network, FACES)
        expected = network().predict_on_batch(FACES[..., None] * np.float32(factor) + offset)
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_class_names_come_from_the_file_and_are_never_guessed_from_their_number(tmp_path):
    six, seven = tuple("uvwxyz"), FER2013
    model_file.save(network(outputs=6), tmp_path / "named.keras", usable(six))
    assert Predictor(str(tmp_path / "named.keras"), "none").classes == six
    with pytest.raises(UserError, match="named.keras: says itself that its classes are u, v, w"):
        Predictor(str(tmp_path / "named.keras"), "none", About(classes=six[::-1]))
    for count in (6, 7):
        network(outputs=count).save(tmp_path / f"{count}.keras")
        with pytest.raises(UserError, match=f"{count}.keras: says neither its classes nor"):
            Predictor(str(tmp_path / f"{count}.keras"), "none")
    assert Predictor(str(tmp_path / "7.keras"), "none", About(classes=seven)).classes == seven


WRONG = {
    "logits": ({"end": None}, r"its 3 numbers are no probabilities .* end the network in a soft"),
    "one number a class": ({"end": "sigmoid"}, "its 3 numbers are no probabilities"),
    "64x64": ({"shape": (64, 64, 1)}, "takes 64x64x1, expected gray faces of 48x48x1"),
    "three channels": ({"shape": (48, 48, 3)}, "takes 48x48x3, expected gray faces of 48x48x1"),
    "no picture": ({"shape": (2304,)}, "takes 2304, expected gray faces of 48x48x1"),
    "more outputs": ({"outputs": 5}, "gives 5 numbers a face, 3 classes are named"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_takes_no_faces_or_gives_no_probabilities_is_refused(case, tmp_path):
    options, message = WRONG[case]
    model_file.save(network(**options), tmp_path / "x.keras", usable(CLASSES))
    with pytest.raises(UserError, match=f"x.keras: {message}"):
        Predictor(str(tmp_path / "x.keras"), "none")


def test_it_is_refused_wherever_a_model_is_read_and_nothing_is_written(tmp_path):
    network(end=None).save(tmp_path / "x.keras")
    model, said = str(tmp_path / "x.keras"), About(classes=CLASSES, scaling="unit")
    message = WRONG["logits"][1]
    for use in (Predictor, analyzer.Analyzer):
        with pytest.raises(UserError, match=message):
            use(model, "none", said)
    for form in export.NAMES:
        with pytest.raises(UserError, match=message):
            export.export(model, form, tmp_path / export.NAMES[form], said)
    with pytest.raises(UserError, match="says neither its classes nor .*; `dvc repro` trains one"):
        loading.load(tmp_path / "x.keras", "tensorflow", CLASSES)  # as stages do
    assert [file.name for file in tmp_path.iterdir()] == ["x.keras"]


def test_the_page_answers_for_a_foreign_model_among_others_in_one_line(
    tmp_path, foreign, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(analyzer, "RELEASED", tmp_path / "none")
    (tmp_path / "recipes/runs/other").mkdir(parents=True)
    (tmp_path / "recipes/runs/other/model.keras").write_bytes(foreign.read_bytes())
    shown = analyzer.Analyzer(str(foreign), "none", About(classes=CLASSES, scaling="unit"))
    answer = shown(image(FACES[0]))
    assert answer["classes"] == CLASSES
    with pytest.raises(UserError, match="says neither its classes nor"):
        shown(image(FACES[0]), "other")
    with pytest.raises(UserError, match="no layer named logits|no global pooling"):
        shown(image(FACES[0]), cam=True)


def test_an_export_says_what_the_foreign_file_did_not(foreign, tmp_path):
    said = About(classes=CLASSES, scaling="signed")
    export.export(str(foreign), "onnx", tmp_path / "x.onnx", said)
    run = export.FORMATS["onnx"][2]
    expected = inference.predict(Predictor(str(foreign), "none", said).network, FACES)
    np.testing.assert_allclose(run(tmp_path / "x.onnx")(FACES[..., None]), expected, atol=1e-4)
    export.export(str(foreign), "mlflow", tmp_path / "served", said)
    (kept,) = (tmp_path / "served").rglob("public.keras")
    assert read_about(kept) == said
    assert Predictor(str(kept), "none").classes == CLASSES
    served = params.raw(tmp_path / "served/MLmodel")["flavors"]["python_function"]
    assert served["config"]["sha256"] == files.sha256(kept)  # else it would not be served


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "a,b"], "one without the other says too little"),
        (["--scaling", "unit"], "one without the other says too little"),
        (["--scaling", "0-1"], "invalid choice: '0-1'"),
        (["--classes", "a,,b", "--scaling", "unit"], "a,,b is no list of names"),
        (["--classes", "a,a", "--scaling", "unit"], "a,a is no list of names"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "export", "demo"])
def test_options_that_say_too_little_are_one_line(verb, options, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ferlab", verb, *options])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert message in f"{ended.value} {capsys.readouterr().err}"


def test_the_command_takes_a_foreign_file_with_its_classes_and_scaling(
    foreign, tmp_path, monkeypatch, capsys
):
    (tmp_path / "face.png").write_bytes(image(FACES[0]))
    options = ["--model", str(foreign), "--classes", ",".join(CLASSES), "--scaling", "unit"]
    command = ["ferlab", "predict", str(tmp_path / "face.png"), *options, "--detector", "none"]
    monkeypatch.setattr("sys.argv", [*command, "--json", "--out", str(tmp_path / "out")])
    __main__.main()
    (row,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [name for name in row if name.startswith("p_")] == [f"p_{name}" for name in CLASSES]
    assert "%" in capsys.readouterr().out
