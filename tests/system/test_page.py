"""The page: what it answers, whom it refuses, two users at once; and a browser that uses it as a
person does.
"""

import base64
import contextlib
import http.client
import io
import itertools
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from ferlab import models
from ferlab.data.classes import CLASSES
from ferlab.serving import analyzer, face_detection, page, predictor
from ferlab.training import backend, model_file
from tests.builders import image, usable
from tests.conftest import REPOSITORY

FACE = (176, 65, 98)  # x, y and side of the astronaut's face
MANY = 20 << 20  # bytes that are still read


def network(path, seed):
    """An untrained network of strong opinions."""
    backend.start("tensorflow", seed=seed)
    made = models.build("small", len(CLASSES), 0.0)
    logits = made.get_layer("logits")
    logits.set_weights([20 * values for values in logits.get_weights()])
    path.parent.mkdir(parents=True, exist_ok=True)
    model_file.save(made, path, usable())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with the model a.keras and that of a recipe, but no released one."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(analyzer, "RELEASED", folder / "pretrained")
        network(Path("a.keras"), 1)
        network(Path("recipes/runs/other/model.keras"), 2)
        yield folder


@contextlib.contextmanager
def served(local=True):
    """The address of a running page."""
    import uvicorn

    shown = analyzer.Analyzer("a.keras", "haar")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(page.application(shown, local), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(place):
    with served() as found:
        yield found


def ask(address, content, headers=None, **query):
    return requests.post(f"{address}/predict", content, params=query, headers=headers, timeout=120)


def test_a_photo_gets_its_face_and_the_same_numbers_as_predict(address, photo, astronaut):
    assert requests.get(f"{address}/models", timeout=120).json() == {"models": ["a.keras", "other"]}
    found = ask(address, photo).json()
    assert (found["width"], found["height"], found["model"], found["classes"]) == (
        512,
        512,
        "a.keras",
        list(CLASSES),
    )
    (one,) = found["faces"]
    assert np.abs(np.array([one["x"], one["y"], one["side"]]) - FACE).max() < 12
    ((_, given),) = predictor.Predictor("a.keras", "haar")(
        [np.asarray(Image.open(io.BytesIO(photo)))]
    )
    assert one["probabilities"] == pytest.approx(given[0].tolist(), abs=1e-4)
    assert "cam" not in one
    other = ask(address, photo, model="other").json()["faces"][0]["probabilities"]
    assert other != pytest.approx(one["probabilities"], abs=0.01)


def test_hires_cam_is_a_picture_of_the_face_with_red_on_it(address, photo):
    (one,) = ask(address, photo, cam=1).json()["faces"]
    kind, _, content = one["cam"].partition(",")
    assert kind == "data:image/png;base64"
    red, green, _ = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int).transpose(2, 0, 1)
    )
    assert red.shape == (48, 48) and (red - green).max() > 40


def test_a_picture_without_a_face_has_none(address):
    assert ask(address, image(np.full((200, 300), 90, np.uint8)), cam=1).json()["faces"] == []


def test_a_face_already_cut_out_is_one(address):
    answer = ask(address, image(np.full((48, 48), 90, np.uint8))).json()
    (one,) = answer["faces"]
    assert (one["x"], one["y"], one["side"]) == (0, 0, 48)
    assert answer["remark"] == "no face found: taken whole as a face"


def test_a_photo_on_its_side_is_turned_and_the_webcams_picture_is_not(address, astronaut):
    lying = image(np.ascontiguousarray(np.rot90(astronaut)), "JPEG", "RGB")
    answer = ask(address, lying).json()
    assert (len(answer["faces"]), answer["remark"]) == (1, "lying on its side")
    assert ask(address, lying, live=1).json()["faces"] == []


@pytest.mark.parametrize(
    ("content", "query", "said"),
    [
        (b"", {}, "the picture: is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, "the picture: not an image"),
        (image(np.zeros((90, 90), np.uint8))[:60], {}, "the picture: damaged image"),
        (
            image(np.zeros((9, 9), np.uint8)),
            {"model": "../../a.keras"},
            "model '../../a.keras': not here; choose a.keras, other",
        ),
        (
            image(np.zeros((9, 9), np.uint8)),
            {"model": "x\n" * 5000},
            "not here; choose a.keras, other",
        ),
    ],
    ids=["empty", "svg", "cut off", "a path", "a long name"],
)
def test_a_bad_upload_is_one_line(address, content, query, said):
    answer = ask(address, content, **query)
    assert answer.status_code == 400
    text = answer.json()["error"]
    assert said in text and "\n" not in text and len(text) < 500


def test_too_large_an_upload_is_refused_before_it_is_sent_and_while_it_is(address, photo):
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(10 * MANY))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"larger than 20 MB" in answer.read()) == (413, True)
    connection.close()
    connection.request(
        "POST",
        "/predict",
        iter([bytes(MANY), b"1"]),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert connection.getresponse().status == 413
    connection.close()
    assert ask(address, photo + bytes(MANY - len(photo))).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_nothing_in_the_log(address, photo):
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage() + str(record.exc_info))
    logging.getLogger("uvicorn.error").addHandler(handler)
    host, _, port = address.removeprefix("http://").partition(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(photo)}\r\n\r\n"
    try:
        for sent in (b"", photo[:1000], photo[:-1]):
            with socket.create_connection((host, int(port))) as leaving:
                leaving.sendall(head.encode() + sent)
        answer = ask(address, photo)
        time.sleep(0.2)  # until the others' ends are handled, too
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)
    assert answer.status_code == 200
    assert lines == []


def test_other_names_and_other_sites_are_refused(address, photo):
    port = address.rpartition(":")[2]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "0.0.0.0",
        "",
    ):
        for path in ("", "/models"):
            assert (
                requests.get(address + path, headers={"Host": host}, timeout=120).status_code == 403
            )
    for host in (f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "127.0.0.1"):
        assert requests.get(address, headers={"Host": host}, timeout=120).status_code == 200
    for origin in (
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1:1",
        f"{address}.evil.example",
    ):
        answer = ask(address, photo, {"Origin": origin})
        assert (answer.status_code, answer.json()["error"]) == (
            403,
            "only this page's own requests are answered",
        )
    assert ask(address, photo, {"Origin": address}).status_code == 200


def test_a_page_opened_to_others_still_refuses_other_sites(place, photo):
    with served(local=False) as address:
        assert (
            "goes to the machine that serves this page"
            in requests.get(address, headers={"Host": "lab"}, timeout=120).text
        )
        assert ask(address, photo, {"Host": "lab", "Origin": "http://lab"}).status_code == 200
        assert (
            ask(address, photo, {"Host": "lab", "Origin": "http://evil.example"}).status_code == 403
        )


def test_the_page_needs_nothing_from_elsewhere_and_is_kept_nowhere(address):
    first, second = (requests.get(address, timeout=120) for _ in range(2))
    assert first.headers["Cache-Control"] == "no-store"
    assert "Nothing leaves this machine" in first.text
    assert not re.search(r"https?:|\burl\(|@import|<script src|src=\"//", first.text)
    nonce = re.search(
        r"script-src 'nonce-([\w-]+)'", policy := first.headers["Content-Security-Policy"]
    )[1]
    assert (
        policy.startswith("default-src 'none'; connect-src 'self'")
        and first.text.count(f'nonce="{nonce}"') == 2
    )
    assert nonce not in second.text
    for missing in ("/docs", "/openapi.json", "/../a.keras"):
        assert requests.get(address + missing, timeout=120).json() == {"error": "Not Found"}


def test_two_users_are_served_at_once(address, photo, monkeypatch):
    both = threading.Barrier(2, timeout=120)  # breaks if the second is let in only after the first

    def faces(self, picture, turn):
        both.wait()
        return face_detection.Faces(np.array([FACE]))

    monkeypatch.setattr(predictor.Predictor, "faces", faces)
    with ThreadPoolExecutor(2) as users:
        assert [answer.status_code for answer in users.map(ask, [address] * 2, [photo] * 2)] == [
            200,
            200,
        ]


def test_users_of_different_models_do_not_disturb_each_other(address, photo):
    wanted = {
        name: ask(address, photo, model=name).json()["faces"][0]["probabilities"]
        for name in ("a.keras", "other")
    }
    with (
        served() as address,
        ThreadPoolExecutor(4) as users,
    ):  # afresh: models are loaded while others answer
        names = ["a.keras", "other"] * 4
        answers = users.map(lambda name: ask(address, photo, model=name, cam=1).json(), names)
        for name, answer in zip(names, answers, strict=True):
            assert answer["model"] == name and answer["faces"][0]["probabilities"] == pytest.approx(
                wanted[name], abs=1e-4
            )


@pytest.mark.slow
def test_the_verb_says_where_it_is_and_ends_quietly(place):
    command = [
        sys.executable,
        "-m",
        "ferlab",
        "demo",
        "--model",
        "a.keras",
        "--detector",
        "haar",
        "--port",
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    running = subprocess.Popen(
        [*command, "0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = re.match(r"(http://127\.0\.0\.1:\d+)/", running.stdout.readline())[1]
        assert requests.get(f"{address}/models", timeout=120).json()["models"][0] == "a.keras"
        port = address.rpartition(":")[2]
        second = subprocess.run([*command, port], env=environment, capture_output=True, text=True)
        assert second.stderr == (
            f"error: 127.0.0.1:{port}: Address already in use; choose another --port or --host: "
            "python -m ferlab demo --port 7861\n"
        )
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=120) == ("", "") and running.returncode == 0
    finally:
        running.kill()


@pytest.fixture
def tab(browser, address):
    """The page in a browser; fails where it asked another host for anything, or wrote an error of
    its own.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    tab, asked, wrong = context.new_page(), [], []
    tab.set_default_timeout(120_000)
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on(
        "console",
        lambda message: wrong.append(message.text) if "Content Security" in message.text else None,
    )
    tab.goto(address)
    tab.wait_for_function("() => document.querySelector('#model').options.length == 2")
    yield tab
    context.close()
    assert asked and not [
        url for url in asked if not url.startswith((f"{address}/", f"blob:{address}/", "data:"))
    ]
    assert wrong == []


def says(tab, text):
    tab.wait_for_function(
        "text => document.querySelector('#message').textContent.includes(text)", arg=text
    )


def bars(tab):
    """{class: (number, width of the bar in percent, text)} of the first face."""
    return {
        name: (float(now), float(width.strip("%")), text)
        for name, now, width, text in tab.eval_on_selector_all(
            ".one:first-child .row",
            "rows => rows.map(row => [row.getAttribute('aria-label'), "
            "row.getAttribute('aria-valuenow'), "
            "row.querySelector('b').style.width, row.lastChild.textContent])",
        )
    }


def choose(tab, content, name="photo.jpg"):
    tab.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": content})


def test_a_chosen_photo_gets_a_box_a_name_and_bars(tab, photo):
    choose(tab, photo)
    says(tab, "1 face: ")
    shown = bars(tab)
    assert tuple(shown) == CLASSES and sum(
        number for number, _, _ in shown.values()
    ) == pytest.approx(100, abs=0.5)
    assert all(
        abs(number - width) < 0.06
        and (text == f"{number:.0f} %" or abs(number % 1 - 0.5) < 0.06)  # rounded either way
        for number, width, text in shown.values()
    )
    best = max(shown, key=shown.get)
    assert (
        tab.inner_text(".one h2")
        == tab.get_attribute("#boxes", "aria-label")
        == f"{best} {shown[best][2]}"
    )
    x, y, side = (value / 512 for value in FACE)
    edge = (
        "([x, y]) => [...boxes.getContext('2d')"
        ".getImageData(x * boxes.width, y * boxes.height, 1, 1).data]"
    )
    lines = [
        tab.evaluate(
            f"offset => ({edge})([{x} + {side} / 2, {y} + {side} + offset / boxes.height])",
            arg=offset,
        )
        for offset in range(-14, 15)
    ]
    assert [48, 99, 142, 255] in lines  # the lower edge of the box
    assert tab.evaluate(edge, [0.9, 0.9])[3] == 0


def test_hires_cam_and_another_model_answer_for_the_photo_that_is_shown(tab, photo):
    choose(tab, photo)
    says(tab, "1 face: ")
    assert not tab.is_visible(".one figure")
    tab.check("#cam")
    tab.wait_for_selector(".one figure img[src^='data:image/png']")
    before = bars(tab)
    tab.select_option("#model", "other")
    tab.wait_for_function(
        "before => document.querySelector('.row').getAttribute('aria-valuenow') != before",
        arg=f"{before['angry'][0]:.1f}",
    )
    assert "red: what speaks for" in tab.inner_text(".one figcaption")


def test_what_is_no_picture_gets_a_message_and_the_next_photo_is_answered(tab, photo):
    choose(tab, b"no picture")
    says(tab, "the picture: not an image")
    tab.evaluate("size => photo(new File([new Uint8Array(size)], 'large.jpg'))", MANY + 1)
    says(tab, "larger than 20 MB")
    choose(tab, image(np.full((200, 300), 90, np.uint8)))
    says(tab, "no face found")
    assert tab.query_selector(".one") is None
    tab.route("**/predict*", lambda route: route.abort())
    choose(tab, photo)
    says(tab, "the server does not answer")
    tab.unroute("**/predict*")
    choose(tab, photo)
    says(tab, "1 face: ")


@pytest.mark.parametrize(
    "event",
    [
        "new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })",
        "new ClipboardEvent('paste', { clipboardData: data, bubbles: true })",
    ],
    ids=["dropped", "pasted"],
)
def test_a_photo_can_be_dropped_and_pasted(tab, photo, event):
    tab.evaluate(
        f"""text => {{
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        data.items.add(new File([bytes], "photo.jpg"));
        document.querySelector("#stage").dispatchEvent({event});
    }}""",
        base64.b64encode(photo).decode(),
    )
    says(tab, "1 face: ")


def test_the_webcam_moves_the_bars_and_stops(tab):
    tab.evaluate("""() => {
        const plain = fetch;
        window.sent = [];
        window.fetch = async (address, options) => {
            const one = { size: options.body.size, began: performance.now(), ended: Infinity };
            sent.push(one);
            try { return await plain(address, options); } finally { one.ended = performance.now(); }
        };
    }""")
    tab.click("#webcam")
    tab.wait_for_selector(".one .row")
    tab.wait_for_function(
        """first => { const row = document.querySelector(".one .row.top");
        const before = row && first[row.getAttribute("aria-label")];
        return row && Math.abs(row.getAttribute("aria-valuenow") - before) > 3; }""",
        arg={name: number for name, (number, _, _) in bars(tab).items()},
    )
    says(tab, "no face found")
    says(tab, "1 face")
    assert tab.evaluate("video.videoWidth") == 640
    tab.click("text=Stop the webcam")
    sent = tab.evaluate("sent")
    tab.wait_for_timeout(700)
    assert len(sent) == tab.evaluate("sent.length") and tab.evaluate("video.srcObject") is None
    assert tab.is_visible("text=Drop a photo here")
    assert max(one["size"] for one in sent) < 200_000
    for one, following in itertools.pairwise(sent):
        assert one["ended"] <= following["began"]  # one at a time
    # five a second at most; a busy machine may send the first one late
    assert len(sent) > 2
    assert sent[-1]["began"] - sent[0]["began"] > 190 * (len(sent) - 2)


def test_the_keyboard_is_enough(tab, photo):
    def tab_to(name):
        for _ in range(8):
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.id") == name:
                assert (
                    tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                )
                return
        raise AssertionError(f"{name} cannot be reached")

    with (
        tab.expect_file_chooser() as opened
    ):  # begun early: it takes the browser a moment to watch for it
        tab_to("choose")
        tab.keyboard.press("Enter")
    opened.value.set_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo})
    says(tab, "1 face: ")
    tab_to("model")
    before = bars(tab)
    tab.keyboard.press("ArrowDown")
    assert tab.input_value("#model") == "other"
    tab.wait_for_function(
        "before => document.querySelector('.row').getAttribute('aria-valuenow') != before",
        arg=f"{before['angry'][0]:.1f}",
    )
    tab_to("cam")
    tab.keyboard.press("Space")
    tab.wait_for_selector(".one figure img")
    tab_to("webcam")
    tab.keyboard.press("Enter")
    says(tab, "no face found")
    tab.keyboard.press("Enter")
    assert tab.inner_text("#webcam") == "Use the webcam"


def test_on_a_phone_nothing_sticks_out(tab, photo, astronaut):
    tab.set_viewport_size({"width": 400, "height": 800})
    tab.evaluate("model.append(new Option('a very long name of a model '.repeat(9)))")

    def fits():
        tab.wait_for_timeout(100)
        return tab.evaluate("document.documentElement.scrollWidth") <= 400 and tab.evaluate(
            "[...document.querySelectorAll('main *')]"
            ".every(one => one.getBoundingClientRect().right <= 401)"
        )

    assert fits()
    for content, said in (
        (photo, "1 face: "),
        (image(np.concatenate([astronaut, astronaut], 1), "PNG", "RGB"), "2 faces: "),
        (b"no picture", "not an image"),
    ):
        tab.check("#cam")
        choose(tab, content)
        says(tab, said)
        assert fits(), said
    tab.click("#webcam")
    tab.wait_for_selector(".one .row")
    assert fits()
