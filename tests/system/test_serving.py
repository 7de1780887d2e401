"""The folder that `export --format mlflow` writes, served by `mlflow models serve` away from any
checkout and asked over HTTP.
"""

import base64
import concurrent.futures
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.data

from benchmarks import serve
from ferlab import models
from ferlab.data.classes import CLASSES
from ferlab.data.readers import images
from ferlab.files import UserError
from ferlab.serving import export
from ferlab.serving.predictor import Predictor
from ferlab.training import backend, model_file
from tests.builders import usable
from tests.conftest import REPOSITORY

HAAR = {"detector": "haar"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    backend.start("tensorflow")
    path = tmp_path_factory.mktemp("model") / "small.keras"
    model_file.save(models.build("small", len(CLASSES), 0.0), path, usable())
    return path


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "served"
    export.export(str(model), "mlflow", path)
    return path


@pytest.fixture(scope="module")
def port(folder):
    with serve.served(folder) as port:
        yield port


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


def test_the_folder_holds_model_code_and_signature_and_no_pickle(folder, model):
    from mlflow.models import Model

    assert (folder / "artifacts/small.keras").read_bytes() == model.read_bytes()
    assert (folder / "code/ferlab/serving/predictor.py").exists()
    assert not [file for file in folder.rglob("*") if file.suffix in (".pkl", ".pickle", ".pyc")]
    about = Model.load(folder)
    assert about.signature.inputs.input_names() == ["image"]
    assert about.signature.params.params[0].name == "detector"
    assert about.flavors["python_function"]["config"]["classes"] == list(CLASSES)
    assert "tensorflow==" in (folder / "requirements.txt").read_text()
    assert f"{model.parent}" not in (folder / "MLmodel").read_text()
    assert str(REPOSITORY) not in (folder / "MLmodel").read_text()


def test_an_exported_folder_may_be_exported_again(folder, model):
    export.export(str(model), "mlflow", folder)
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


@pytest.mark.slow
def test_a_changed_model_is_not_served(folder, tmp_path):
    subprocess.run(["cp", "-r", folder, tmp_path / "changed"], check=True)
    with open(tmp_path / "changed/artifacts/small.keras", "ab") as file:
        file.write(b"more")
    code = "import mlflow, sys; mlflow.pyfunc.load_model(sys.argv[1])"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "changed"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )
    assert done.returncode
    assert (
        "small.keras: not the model that was exported (its sha256 differs); export it again"
        in done.stderr
    )


@pytest.mark.slow
def test_faces_are_those_of_predict_in_every_form_of_request(port, model, astronaut):
    cut = images.cut(astronaut, (171, 64, 107))
    photo, face = serve.encoded(astronaut), serve.encoded(cut)
    (faces, given), (_, plain) = Predictor(str(model), "haar")(
        [astronaut, np.stack([cut] * 3, axis=-1)]
    )
    status, answer = serve.ask(port, {"inputs": [photo, face], "params": HAAR})
    assert status == 200
    (found,), (whole,) = (row["faces"] for row in answer["predictions"])
    assert found["box"] == faces.squares[0].tolist()
    assert found["expression"] == CLASSES[given[0].argmax()]
    assert list(found["probabilities"]) == list(CLASSES)
    assert np.allclose(list(found["probabilities"].values()), given[0], atol=1e-5)
    assert whole["box"] == [0, 0, 48]
    assert np.allclose(list(whole["probabilities"].values()), plain[0], atol=1e-5)
    split = {"dataframe_split": {"columns": ["image"], "data": [[photo], [face]]}, "params": HAAR}
    records = {"dataframe_records": [{"image": photo}, {"image": face}], "params": HAAR}
    assert serve.ask(port, split) == serve.ask(port, records) == (200, answer)


@pytest.mark.slow
def test_no_search_where_none_is_wanted_and_no_face_where_none_is(port, astronaut):
    photo, gray = serve.encoded(astronaut), serve.encoded(np.full((200, 300, 3), 128, np.uint8))
    status, answer = serve.ask(port, {"inputs": [photo], "params": {"detector": "none"}})
    assert (status, answer["predictions"][0]["faces"][0]["box"]) == (200, [0, 0, 512])
    assert serve.ask(port, {"inputs": [gray], "params": HAAR}) == (
        200,
        {"predictions": [{"faces": []}]},
    )
    assert serve.ask(port, {"inputs": []}) == (200, {"predictions": []})


def test_what_is_no_text_is_told_as_no_picture():
    from ferlab.serving import served_model  # loads MLflow

    for sent in (None, 3):  # as {"dataframe_records": [{"image": null}]} brings it
        with pytest.raises(UserError, match="image 2: not base64"):
            served_model._picture(sent, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent, detector, said",
    [
        ("text", "haar", "image 2: not an image; replace or remove it"),
        ("damaged", "haar", "image 2: damaged image; replace or remove it"),
        ("%%%", "haar", "image 2: not base64 in one line, without breaks; encode the file anew"),
        ("", "haar", "image 2: is empty (0 bytes)"),
        ("fine", "magic", "detector 'magic': unknown; choose haar or mtcnn"),
    ],
)
def test_a_bad_request_is_answered_with_status_400_and_one_line(
    port, astronaut, sent, detector, said
):
    photo = serve.encoded(astronaut)
    sent = {
        "fine": photo,
        "damaged": photo[:40000],
        "text": base64.b64encode(b"not a picture").decode(),
    }.get(sent, sent)
    status, answer = serve.ask(port, {"inputs": [photo, sent], "params": {"detector": detector}})
    assert status == 400
    assert answer == {"error_code": "BAD_REQUEST", "message": said}
    assert serve.ask(port, {"inputs": [photo], "params": HAAR})[0] == 200  # it goes on


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [{}, [], {"inputs": [3]}, {"inputs": "x"}, {"dataframe_records": [{"x": "y"}]}]
)
def test_what_mlflow_itself_refuses_shows_no_traceback(port, body):
    status, answer = serve.ask(port, body)
    assert status == 400
    assert "Traceback" not in json.dumps(answer)


@pytest.mark.slow
def test_eight_clients_at_a_time_get_the_same_answer(port, astronaut):
    body = {"inputs": [serve.encoded(astronaut)], "params": HAAR}
    alone = serve.ask(port, body)
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        assert all(
            answer == alone for answer in clients.map(lambda _: serve.ask(port, body), range(16))
        )
    total, taken = serve.load(port, body, requests=8)
    assert 0 < taken[0] <= taken[-1] <= total
