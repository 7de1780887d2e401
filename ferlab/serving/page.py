"""`python -m ferlab demo`: a page on this machine that shows what a network says of a photo or of the webcam's picture.

Pictures are answered and forgotten: none is written anywhere.
"""

import functools
import logging
import os
import re
import secrets
import socket
import threading
from pathlib import Path

import numpy as np

from ferlab import files, recipes
from ferlab.data.readers import images
from ferlab.evaluation import attention
from ferlab.reporting import pages
from ferlab.serving import face_detection
from ferlab.serving.predict import SHIPPED, Predictor

MAX_BYTES = 20 << 20  # of an upload
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
RED = (194, 59, 78)  # of the Grad-CAM, as on the page of `explain`
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; style-src 'nonce-{0}'; script-src 'nonce-{0}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def choices(first=""):
    """{name on the page: name for Predictor} of the models here: `first`, the one that ships, the workspace's, the recipes'."""
    found = {first: first} if first else {}
    if (SHIPPED / "model.json").exists():
        found["shipped"] = ""
    if Path("models/model.keras").exists():
        found["workspace"] = "workspace"
    return found | {
        path.parent.name: str(path)
        for path in sorted((recipes.RECIPES / "runs").glob("*/model.keras"))
    }


class Looker:
    """What all requests share: one detector, and the last few networks that were asked for."""

    def __init__(self, first="", detector=None):
        self._first, self._lock, self.detector = first, threading.Lock(), None
        self._cached = functools.lru_cache(4)(self._fresh)
        if not self.names():
            raise files.UserError(
                "no model to show; `dvc repro` trains one, or name one: --model FILE"
            )
        predictor = self._load(
            self.names()[0]
        )  # now: what is wrong with it is told before anybody looks at the page
        if detector != "none":
            self.detector = predictor.detector = face_detection.Detector(
                detector
            )  # after the network, which silences TensorFlow

    def names(self):
        return list(choices(self._first))

    def _load(self, name):
        asked = choices(self._first)[name]
        path = {"": SHIPPED / "model.keras", "workspace": Path("models/model.keras")}.get(
            asked, Path(asked)
        )
        return self._cached(
            name, path.stat().st_mtime_ns if path.exists() else 0
        )  # trained again meanwhile: another one

    def _fresh(self, name, changed):
        made = Predictor(choices(self._first)[name], "none")
        made.detector = self.detector
        return made

    def __call__(self, content, name="", cam=False):
        """The answer to the bytes of a picture, ready for JSON. Raises UserError."""
        if (name := name or self.names()[0]) not in self.names():
            raise files.UserError(f"model {name!r}: not here; choose {', '.join(self.names())}")
        picture = np.asarray(images.decode(content, "the picture").convert("RGB"))
        with self._lock:  # loading one network resets what Keras shares with the others
            predictor = self._load(name)
        squares = predictor.squares(picture)
        found = [{"x": x, "y": y, "side": side} for x, y, side in squares.tolist()]
        if found:
            cut = np.stack([images.cut(picture, square) for square in squares])
            with self._lock:
                given = predictor.probabilities(cut)
                heat = (
                    attention.hires_cam(predictor.network, cut, given.argmax(axis=1)) if cam else []
                )
            for one, row in zip(found, given.tolist(), strict=True):
                one["probabilities"] = [round(value, 4) for value in row]
            for one, face, hot in zip(found, cut, heat, strict=False):
                one["cam"] = pages.inline(pages.png(warm(face, hot)))
        height, width = picture.shape[:2]
        return {
            "width": width,
            "height": height,
            "model": name,
            "classes": predictor.classes,
            "faces": found,
        }


def warm(face, heat):
    """uint8 (48, 48, 3): a gray face, red where `heat` (0 to 1) is high."""
    share = 0.65 * heat[..., None]
    return ((1 - share) * face[..., None] + share * np.array(RED)).round().astype(np.uint8)


def application(looker, local=True):
    """The FastAPI application. local: answer only requests that name this machine by its loopback address."""
    from fastapi import Depends, FastAPI, Request
    from fastapi.responses import HTMLResponse, JSONResponse
    from starlette.exceptions import HTTPException

    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url=None
    )  # its own pages load scripts from elsewhere
    html = pages.template("page.html")

    def error(status, text):
        return JSONResponse({"error": text}, status)

    app.exception_handler(HTTPException)(
        lambda request, raised: error(raised.status_code, raised.detail)
    )
    app.exception_handler(files.UserError)(lambda request, raised: error(400, str(raised)))

    @app.middleware("http")
    async def guard(request, proceed):
        """Other sites' pages can send requests here too, also under a name of theirs that leads to this machine."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if local and not LOOPBACK.fullmatch(host):
            answer = error(403, "only requests to 127.0.0.1 or localhost are answered")
        elif (
            request.method not in ("GET", "HEAD")
            and origin is not None
            and origin.partition("://")[2] != host
        ):
            answer = error(403, "only this page's own requests are answered")
        else:
            answer = await proceed(request)
        answer.headers.update(HEADERS)
        return answer

    async def body(request: Request):
        content = bytearray()
        if int(request.headers.get("content-length", 0)) <= MAX_BYTES:
            async for part in request.stream():
                content += part
                if len(content) > MAX_BYTES:
                    break
            else:
                return bytes(content)
        raise HTTPException(
            413, f"the picture: larger than {MAX_BYTES >> 20} MB; choose a smaller one"
        )

    @app.get("/")
    def page():
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(
            html.render(nonce=nonce, local=local, most=MAX_BYTES),
            headers={"Content-Security-Policy": POLICY.format(nonce)},
        )

    @app.get("/models")
    def models():
        return {"models": looker.names()}

    @app.post("/predict")
    def predict(
        content: bytes = Depends(body), model: str = "", cam: str = "0"
    ):  # no `async`: runs in a thread of its own
        return looker(content, model, cam == "1")

    return app


def serve(host, port, model="", detector=None):
    """Show the page until Ctrl-C."""
    import uvicorn

    shown = f"[{host}]" if ":" in host else host
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except (OSError, OverflowError) as error:
        reason = (
            os.strerror(error.errno) if isinstance(error, OSError) and error.errno > 0 else error
        )
        raise files.UserError(
            f"{shown}:{port}: {reason}; choose another --port or --host"
        ) from None
    with listening:
        local = bool(LOOPBACK.fullmatch(shown))
        looker = Looker(model, detector)
        if detector is None and looker.detector.name == "haar":
            print(
                "faces are found by OpenCV's cascade; a better detector: pip install --require-hashes -r requirements-use.txt"
            )
        if not local:
            print("every machine that reaches this one can use the page")
        print(f"http://{shown}:{listening.getsockname()[1]}/    (Ctrl-C ends it)", flush=True)
        logging.getLogger("tensorflow").setLevel(
            "ERROR"
        )  # Grad-CAM traces a new function for each picture, which it warns of
        server = uvicorn.Server(
            uvicorn.Config(
                application(looker, local), log_level="warning", timeout_graceful_shutdown=2
            )
        )
        server.run(sockets=[listening])
