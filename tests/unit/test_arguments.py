"""What is wrong with a command is said before anything that takes seconds is loaded."""

import sys

import pytest

from ferlab import __main__
from ferlab.files import UserError
from ferlab.serving import model_lookup
from tests.repository import TOP

WRONG = {
    "predict photo --detector hare": ["'hare' (choose from ", "did you mean haar?"],
    "predict photo --model speedrunn": ["did you mean speedrun? known: workspace"],
    "predict photo --model network.h5": ["network.h5: not a .keras file", "--model is a .keras"],
    "predict photo --model mine.keras": ["mine.keras: not found; --model is", "at once"],
    "predict photo --model workspace": ["models/model.keras: not found; `make repro`", "minutes"],
    "predict photo --model majority": ["majority: this recipe trains no network"],
    "predict photo --seconds never": ["never is no number of seconds"],
    "predict photo --camera one": ["one is no number from 0"],
    "predict photo --min-face 0": ["0 is no number from 1"],
    "predict photo --every 0": ["0 is no number from 1"],
    "predict photo --every 00": ["00 is no number from 1"],
    "predict photo --smooth no": ["no is no number of seconds"],
    "predict nowhere.jpg": ["nowhere.jpg: not found"],
    "predict": ["nothing to predict"],
    "demo --port 0 --detector none --model speedrunn": ["did you mean speedrun?"],
    "demo --port 99999999": ["choose another --port"],
    "export --model speedrunn": ["did you mean speedrun?"],
    "export --format onx": ["did you mean onnx?"],
    "export --model small.onnx": ["small.onnx: is an export already; name the .keras file"],
    "export --out model.tflite": ["onnx is a file that ends in .onnx"],
    "release speedrunn": ["speedrunn: no result, did you mean speedrun?"],
    "use speedrunn": ["speedrunn.yaml: no such recipe, did you mean speedrun?"],
    "compare speedrunn workspace": ["did you mean speedrun?"],
    "run-recipes speedrunn": ["no network 'speedrunn', did you mean speedrun?"],
    "predcit photo": ["'predcit' (choose from ", "did you mean predict?"],
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the recipes but without a model, in which loading Keras would fail."""
    for name in ("recipes", "params.yaml", "dvc.yaml"):
        (tmp_path / name).symlink_to(TOP / name)
    (tmp_path / "photo").mkdir()
    (tmp_path / "photo/one.png").write_bytes(b"not looked at")
    for name in ("network.h5", "small.onnx"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for slow in ("tensorflow", "keras", "mlflow", "mtcnn"):
        monkeypatch.setitem(sys.modules, slow, None)  # importing it raises ImportError


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_argument_is_told_with_what_is_known_before_anything_is_loaded(
    command, checkout, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["ferlab", *command.split()])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    said = f"{ended.value} {capsys.readouterr().err}"
    assert [text for text in WRONG[command] if text not in said] == [], said


def test_an_error_about_a_model_that_must_be_trained_says_what_that_costs(tmp_path, monkeypatch):
    monkeypatch.chdir(TOP)
    monkeypatch.setattr(
        "dvc.api.DVCFileSystem", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("gone"))
    )
    with pytest.raises(UserError, match=r"repro predict@speedrun trains it \(\d+ minutes on .*\)"):
        model_lookup.fetch("speedrun", tmp_path / "model.keras")
