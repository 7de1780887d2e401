"""The light way: the released network as an ONNX file, without Keras and TensorFlow; the steps of
the Dockerfile, taken in a plain environment.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
import skimage.data
from ruamel.yaml import YAML

from ferlab import __main__
from ferlab.files import UserError
from ferlab.serving import analyzer, export_formats, model_lookup, predict
from ferlab.serving.light import onnx_file
from ferlab.serving.predictor import Predictor
from tests.builders import image
from tests.repository import TOP

ONNX = model_lookup.RELEASED / "model.onnx"
LEFT_OUT = ("tensorflow", "keras", "mtcnn", "mlflow", "dvc", "dvc.api", "seaborn")
MOST = 0.4e9  # bytes that the packages of the light way take
STEPS = (TOP / "Dockerfile").read_text()


@pytest.fixture
def light(monkeypatch):
    """Importing what the light way leaves out fails, as if it were not installed."""
    for name in LEFT_OUT:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ferlab.reporting.figures.style", raising=False)
    monkeypatch.delenv(model_lookup.MODELS, raising=False)


@pytest.fixture(scope="module")
def photo():
    return image(skimage.data.astronaut(), "JPEG", "RGB")


def test_the_released_network_predicts_without_keras(light, tmp_path, photo, capsys):
    (tmp_path / "photo.jpg").write_bytes(photo)
    assert predict.predict([tmp_path / "photo.jpg"], tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "model: the released one; detector: haar" in said
    assert "photo.jpg: happy" in said


def test_both_released_files_are_one_network():
    faces = np.random.default_rng(0).integers(0, 256, (9, 6, 6), np.uint8).repeat(8, 1).repeat(8, 2)
    keras = Predictor(str(ONNX.with_suffix(".keras")), "none")
    onnx = Predictor(str(ONNX), "none")
    assert onnx.classes == keras.classes
    about = keras.network.about
    keras.network = export_formats.in_float32(keras.network)  # it may compute in bfloat16
    keras.network.about = about
    given = onnx.probabilities(faces)
    assert given == pytest.approx(keras.probabilities(faces), abs=1e-5)
    assert given.max(axis=1).std() > 0.02


def test_the_page_answers_without_keras_and_shows_where_the_network_looks(light, photo):
    shown = analyzer.Analyzer()
    assert shown.names() == ["released"]
    (face,) = shown(photo, cam=True)["faces"]
    assert shown.names() and face["cam"].startswith("data:image/png;base64,")


def test_hiding_a_place_that_does_not_matter_shows_nothing_there():
    class Mouth:
        network = onnx_file.OnnxNetwork(None, ("a", "b"))

        def probabilities(self, faces):
            """The brighter the mouth, the surer it is."""
            share = faces[:, 36:44, 16:32].mean(axis=(1, 2)) / 255
            return np.stack([share, 1 - share], axis=1)

    heat = analyzer._heat(Mouth(), np.full((1, 48, 48), 255, np.uint8), [0])[0]
    assert heat[40, 24] > 0.7 and heat[:24].max() == 0


def test_a_clip_is_predicted_without_a_chart(light, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 25, (512, 512))
    for _ in range(3):
        writer.write(np.ascontiguousarray(skimage.data.astronaut()[..., ::-1]))
    writer.release()
    assert predict.predict([clip], tmp_path / "out") == 0
    assert "3 times; no chart, as seaborn is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("predict {photo} --model {keras}", "needs Keras and TensorFlow, which are not installed"),
        ("predict {photo} --model speedrun", "this needs dvc, which is not installed: pip install"),
        ("predict {photo} --model {text}", "text.onnx: not an ONNX file that ferlab exported"),
        ("predict {photo} --model {foreign}", "foreign.onnx: not an ONNX file that ferlab exp"),
        ("predict {photo} --model none.onnx", "none.onnx: not found; --model is"),
        (
            "predict {photo} --model {onnx} --classes a,b --scaling raw",
            "model.onnx: says itself how to use it; leave out --classes and --scaling",
        ),
        ("export", "onnx: tf2onnx is not installed"),
    ],
)
def test_what_the_light_way_lacks_is_told_in_a_line(
    command, said, light, tmp_path, photo, monkeypatch
):
    (tmp_path / "photo.jpg").write_bytes(photo)
    (tmp_path / "text.onnx").write_text("no network")
    # the same file without the names of its classes
    (tmp_path / "foreign.onnx").write_bytes(ONNX.read_bytes().replace(b"classes", b"klasses"))
    monkeypatch.chdir(TOP)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    names = ("photo.jpg", "text.onnx", "foreign.onnx")
    places = {Path(name).stem: tmp_path / name for name in names}
    command = command.format(**places, onnx=ONNX, keras=ONNX.with_suffix(".keras"))
    monkeypatch.setattr("sys.argv", ["ferlab", *command.split()])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert str(ended.value).startswith("error: ") and said in str(ended.value)


def test_onnxruntime_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="onnxruntime is not installed; pip install .*-predict.txt"):
        Predictor(str(ONNX), "none")


def test_a_changed_onnx_file_is_not_the_released_model(light, tmp_path, monkeypatch):
    shutil.copy(ONNX.with_name("model.json"), tmp_path)
    (tmp_path / "model.onnx").write_bytes(ONNX.read_bytes() + b" ")
    monkeypatch.setattr(model_lookup, "RELEASED", tmp_path)
    with pytest.raises(UserError, match="model.onnx: not the released model"):
        Predictor("", "none")


def test_image_and_devcontainer_take_the_steps_of_the_readme():
    documented = "\n".join(
        block
        for name in ("README.md", "docs/use.md")
        for block in re.findall(r"(?ms)^```\n(.*?)^```", (TOP / name).read_text())
    )
    container = json.loads((TOP / ".devcontainer/devcontainer.json").read_text())
    (serve,) = re.findall(r"(?m)^CMD (.*)", STEPS)
    commands = [*re.findall(r"(?m)^RUN (.*)", STEPS), container["postCreateCommand"]]
    for command in [*commands, " ".join(json.loads(serve)[:4])]:
        assert re.search(rf"(?m)(^|&& ){re.escape(command)}( |$)", documented), command
    told = re.findall(r"(?m)^#   (docker .*)", STEPS)
    assert len(told) == 2 and all(command in documented for command in told)
    versions = re.findall(r"python:(\d\.\d+)", STEPS + container["image"])
    allowed = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["requires-python"]
    assert allowed == ">=3.11,<3.14" and set(versions) <= {"3.11", "3.12", "3.13"}
    let_in = (TOP / ".dockerignore").read_text().split()
    copied = [line.split()[0] for line in re.findall(r"(?m)^COPY (.*)", STEPS)]
    assert let_in[0] == "*" and {f"!{name}" for name in copied} <= set(let_in)


def test_the_citation_is_that_of_this_version():
    citation = YAML(typ="safe").load((TOP / "CITATION.cff").read_text())
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"][0]["name"] in (TOP / "LICENSE").read_text()


@pytest.mark.slow
def test_the_steps_of_the_image_in_a_plain_environment(tmp_path, photo):
    place = tmp_path / "ferlab"
    place.mkdir()
    for name in re.findall(r"(?m)^COPY (\S+)", STEPS):
        if (TOP / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(TOP / name, place / name, ignore=ignored)
        else:
            shutil.copy(TOP / name, place)
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv/bin"
    packages = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    before = _bytes(packages)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)} | {
        name: value for name, value in os.environ.items() if name.startswith("PIP_")
    }
    for step in re.findall(r"(?m)^RUN (.*)", STEPS):
        subprocess.run(step, shell=True, cwd=place, env=environment, check=True)
    assert _bytes(packages) - before <= MOST
    (place / "photo.jpg").write_bytes(photo)
    told = subprocess.run(
        ["python", "-m", "ferlab", "predict", "photo.jpg"],
        cwd=place,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "photo.jpg: happy" in told
    (serve,) = re.findall(r"(?m)^CMD (.*)", STEPS)
    command = [*json.loads(serve)[:4], "--port", "0"]  # this machine's own address
    running = subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        address = next(filter(None, (re.match("http[^ ]+", line) for line in running.stdout)))[0]
        answer = requests.post(f"{address}predict", photo, timeout=120).json()
        (face,) = answer["faces"]
        assert answer["classes"][np.argmax(face["probabilities"])] == "happy"
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(60)


def _bytes(folder):
    """What the files below a folder take on the disk, as `du` counts, without compiled ones."""
    kept = (file for file in folder.rglob("*") if file.suffix != ".pyc" and file.is_file())
    return sum(512 * file.lstat().st_blocks for file in kept)
