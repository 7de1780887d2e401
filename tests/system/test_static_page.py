"""The page as files: what fetches them is careful, and in a browser they find the same faces and
give the same numbers as predict, without sending anything anywhere.
"""

import base64
import contextlib
import functools
import http.server
import os
import shutil
import threading

import numpy as np
import pytest

from ferlab.data.readers import images
from ferlab.files import UserError
from ferlab.serving import model_lookup
from ferlab.serving.light import static_page
from ferlab.serving.predictor import Predictor
from tests.builders import image
from tests.system.test_page import bars, choose, says


def test_without_npm_and_for_a_folder_of_the_users_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="npm is not installed"):
        static_page.write(tmp_path / "new")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="mine: exists and is no such page"):
        static_page.write(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_another_package_than_the_pinned_one_is_not_unpacked(tmp_path):
    (tmp_path / "other.tgz").write_bytes(b"another")
    (tmp_path / "page").mkdir()
    with pytest.raises(UserError, match="npm brought another package .sha512-"):
        static_page.unpack(tmp_path / "other.tgz", tmp_path / "page")
    assert not list((tmp_path / "page").iterdir())


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of the page, served by what comes with Python."""
    if not shutil.which("npm"):
        assert os.environ.get("CI") != "true", "CI must have npm: apt-get install npm"
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("static") / "page"
    try:
        static_page.write(folder)
    except UserError as error:
        if "is the registry reachable?" in str(error):
            pytest.skip(str(error))
        raise
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def tab(browser, address):
    """The page in a browser; fails where it sent anything, asked another host, or met an error."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    tab, asked, wrong = context.new_page(), [], []
    tab.set_default_timeout(120_000)
    tab.on("request", lambda request: asked.append((request.method, request.url)))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text))
    tab.goto(address)
    tab.evaluate("() => loaded")
    yield tab
    context.close()
    assert ("GET", f"{address}/model.onnx") in asked
    own = (f"{address}/", f"blob:{address}/", "data:")
    assert not [one for one in asked if one[0] != "GET" or not one[1].startswith(own)]
    assert wrong == []


def found(tab, picture):
    """What the page answers to a picture, uint8 (H, W, 3), or (H, W, 4) with transparency."""
    asked = """async text => {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        return await ask(new Blob([bytes]));
    }"""
    return tab.evaluate(asked, base64.b64encode(_png(picture)).decode())


def _png(picture):
    return image(picture, "PNG", "RGBA" if picture.shape[2] == 4 else "RGB")


def _round(shape):
    """An alpha channel in which the astronaut's face alone shows, in a circle."""
    rows, columns = np.indices(shape)
    return np.where((rows - 110) ** 2 + (columns - 221) ** 2 < 90**2, 255, 0).astype(np.uint8)


@pytest.mark.slow
def test_faces_and_numbers_are_those_of_predict(tab, astronaut):
    predictor = Predictor(str(model_lookup.RELEASED / "model.onnx"), "haar")
    pictures = {
        "upright": astronaut,
        "on its side": np.ascontiguousarray(np.rot90(astronaut)),
        "upside down": np.ascontiguousarray(np.rot90(astronaut, 2)),
        "two": np.concatenate([astronaut, astronaut[:, ::-1]], axis=1),
        "a face already": astronaut[65:155, 176:266],
        "large": np.repeat(np.repeat(astronaut, 4, axis=0), 4, axis=1),
        "transparent": np.dstack([astronaut, _round(astronaut.shape[:2])]),
        "a wall": np.full((200, 300, 3), 90, np.uint8),
    }
    for name, picture in pictures.items():
        seen = np.asarray(images.decode(_png(picture), name).convert("RGB"))
        answer, ((faces, probabilities),) = found(tab, picture), predictor([seen])
        squares = [[face[key] for key in ("x", "y", "side")] for face in answer["faces"]]
        assert answer["remark"] == faces.remark(), name
        assert len(squares) == len(faces.squares) == {"two": 2, "a wall": 0}.get(name, 1), name
        if squares:  # those of a large picture are found in one that is shrunk otherwise
            most = 0.01 * max(picture.shape)
            assert np.abs(np.array(squares) - faces.squares).max() <= most, name
            given = [face["probabilities"] for face in answer["faces"]]
            assert np.abs(np.array(given) - probabilities).max() < 0.02, name


@pytest.mark.slow
def test_a_chosen_photo_is_shown_with_its_bars_and_what_is_no_picture_with_a_message(tab, photo):
    choose(tab, photo)
    says(tab, "1 face: happy")
    shown = bars(tab)
    assert max(shown, key=shown.get) == "happy" and shown["happy"][0] > 50
    choose(tab, b"no picture")
    says(tab, "not an image that this browser reads")
    assert not tab.is_visible("select") and not tab.is_visible("[type=checkbox]")


@pytest.mark.slow
def test_the_webcam_moves_the_bars_and_stops(tab):
    tab.click("#webcam")
    tab.wait_for_selector(".one .row")
    moved = """first => { const row = document.querySelector(".one .row.top");
        const before = row && first[row.getAttribute("aria-label")];
        return row && Math.abs(row.getAttribute("aria-valuenow") - before) > 3; }"""
    tab.wait_for_function(moved, arg={name: number for name, (number, _, _) in bars(tab).items()})
    says(tab, "no face found")
    says(tab, "1 face")
    tab.click("text=Stop the webcam")
    assert tab.evaluate("video.srcObject") is None
    assert tab.is_visible("text=Drop a photo here")


@pytest.mark.slow
def test_the_browser_itself_lets_the_page_send_nothing_elsewhere(browser, address):
    with contextlib.closing(browser.new_context()) as context:
        tab, told = context.new_page(), []
        tab.on("console", lambda message: told.append(message.text))
        tab.goto(address)
        tab.evaluate(
            "() => fetch('http://localhost:9/', { method: 'POST', body: 'x' }).catch(() => 0)"
        )
        assert any("Content Security Policy" in text for text in told)
