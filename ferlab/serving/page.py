"""`python -m ferlab demo`: a page on this machine that shows what a network predicts for a photo or
the webcam's picture.

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
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ferlab import files, recipes
from ferlab.data.readers import images
from ferlab.evaluation import attention
from ferlab.reporting import pages
from ferlab.serving import face_detection
from ferlab.serving.model_lookup import RELEASED, WORKSPACE_MODEL
from ferlab.serving.predictor import Predictor

MAX_BYTES = 20 << 20  # of an upload
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'nonce-{0}'; script-src 'nonce-{0}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def choices(first=""):
    """{name on the page: name for Predictor} of the models here.

    In this order: `first`, the released one, the workspace's, the recipes'.
    """
    models = {first: first} if first else {}
    if (RELEASED / "model.json").exists():
        models["released"] = ""
    if WORKSPACE_MODEL.exists():
        models["workspace"] = "workspace"
    runs = sorted((recipes.RECIPES / "runs").glob("*/model.keras"))
    return models | {path.parent.name: str(path) for path in runs}


class Analyzer:
    """What all requests share: one detector, and the last few networks that were asked for.

    Call it from any thread with the bytes of a picture.
    """

    def __init__(self, first="", detector=None, said=None):
        """first: the model shown first, as in find_model. detector, said (of the first model): as
        in Predictor. Raises UserError.
        """
        self._first, self._said = first, said
        self._lock, self.detector = threading.Lock(), None
        self._cached = functools.lru_cache(4)(self._fresh)
        if not self.names():
            raise files.UserError(
                "no model to show; `dvc repro` trains one, or name one: --model FILE"
            )
        # now: what is wrong with it is reported before anybody looks at the page
        predictor = self._load(self.names()[0])
        if detector != "none":  # after the network, which silences TensorFlow
            self.detector = predictor.detector = face_detection.Detector(detector)

    def names(self):
        """The names of the models that the page offers."""
        return list(choices(self._first))

    def __call__(self, content, name="", cam=False):
        """The answer to the bytes of a picture, ready for JSON. cam: with HiResCAM. Raises
        UserError.
        """
        if (name := name or self.names()[0]) not in self.names():
            raise files.UserError(f"model {name!r}: not here; choose {', '.join(self.names())}")
        picture = np.asarray(images.decode(content, "the picture").convert("RGB"))
        with self._lock:  # loading one network resets what Keras shares with the others
            predictor = self._load(name)
        height, width = picture.shape[:2]
        return {
            "width": width,
            "height": height,
            "model": name,
            "classes": predictor.classes,
            "faces": self._faces(predictor, picture, cam),
        }

    def _faces(self, predictor, picture, cam):
        """A dict for each face: x, y, side, probabilities; with `cam` its HiResCAM as a data
        address.
        """
        squares = predictor.squares(picture)
        if not len(squares):
            return []
        cut = np.stack([images.cut(picture, square) for square in squares])
        with self._lock:
            probabilities = predictor.probabilities(cut)
            classes = probabilities.argmax(axis=1)
            heat = attention.hires_cam(predictor.network, cut, classes) if cam else []
        faces = [
            {"x": x, "y": y, "side": side, "probabilities": [round(value, 4) for value in row]}
            for (x, y, side), row in zip(squares.tolist(), probabilities.tolist(), strict=True)
        ]
        for answer, face, its_heat in zip(faces, cut, heat, strict=False):
            answer["cam"] = pages.inline(pages.png(face_detection.reddened(face, its_heat)))
        return faces

    def _load(self, name):
        model = choices(self._first)[name]
        places = {"": RELEASED / "model.keras", "workspace": WORKSPACE_MODEL}
        path = places.get(model, Path(model))
        # trained again meanwhile, it is another one
        return self._cached(name, path.stat().st_mtime_ns if path.exists() else 0)

    def _fresh(self, name, changed):
        said = self._said if name == self.names()[0] else None
        predictor = Predictor(choices(self._first)[name], "none", said)
        predictor.detector = self.detector
        return predictor


def application(analyzer, local=True):
    """The FastAPI application. local: answer only requests that name this machine by its loopback
    address.
    """
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    # FastAPI's own pages load scripts from elsewhere
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def error(status, text):
        return JSONResponse({"error": text}, status)

    app.exception_handler(HTTPException)(
        lambda request, raised: error(raised.status_code, raised.detail)
    )
    app.exception_handler(files.UserError)(lambda request, raised: error(400, str(raised)))

    @app.middleware("http")
    async def guard(request: Request, proceed):
        refusal = _refusal(request, local)
        answer = error(403, refusal) if refusal else await proceed(request)
        answer.headers.update(HEADERS)
        return answer

    _add_routes(app, analyzer, local)
    return app


def _refusal(request, local):
    """Why a request is refused, or None: other sites' pages can send requests here too, also under
    a name of theirs that leads to this machine."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if local and not LOOPBACK.fullmatch(host):
        return "only requests to 127.0.0.1 or localhost are answered"
    reads = request.method in ("GET", "HEAD")
    if not reads and origin is not None and origin.partition("://")[2] != host:
        return "only this page's own requests are answered"
    return None


def _add_routes(app, analyzer, local):
    from fastapi import Depends
    from fastapi.responses import HTMLResponse

    html = pages.template("page.html")

    @app.get("/")
    def page():
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(
            html.render(nonce=nonce, local=local, most=MAX_BYTES),
            headers={"Content-Security-Policy": POLICY.format(nonce)},
        )

    @app.get("/models")
    def models():
        return {"models": analyzer.names()}

    @app.post("/predict")  # no `async`: runs in a thread of its own
    def predict(content: bytes = Depends(_body), model: str = "", cam: str = "0"):
        return analyzer(content, model, cam == "1")


async def _body(request: Request):
    """The bytes of an upload; status 413 where they are more than MAX_BYTES, as soon as that is
    known.
    """
    content = bytearray()
    if int(request.headers.get("content-length", 0)) <= MAX_BYTES:
        async for part in request.stream():
            content += part
            if len(content) > MAX_BYTES:
                break
        else:
            return bytes(content)
    raise HTTPException(413, f"the picture: larger than {MAX_BYTES >> 20} MB; choose a smaller one")


def serve(host, port, model="", detector=None, said=None):
    """Show the page until Ctrl-C. port: 0 for any that is free. The others as in Analyzer; raises
    UserError.
    """
    import uvicorn

    shown = f"[{host}]" if ":" in host else host
    with _listening(host, port, shown) as listening:
        local = bool(LOOPBACK.fullmatch(shown))
        analyzer = Analyzer(model, detector, said)
        if detector is None and analyzer.detector.name == "haar":
            print(
                "faces are found by OpenCV's cascade; a better detector: "
                "pip install --require-hashes -r requirements-use.txt"
            )
        if not local:
            print("every machine that reaches this one can use the page")
        print(f"http://{shown}:{listening.getsockname()[1]}/    (Ctrl-C ends it)", flush=True)
        # HiResCAM traces a new function for each picture, of which TensorFlow warns
        logging.getLogger("tensorflow").setLevel("ERROR")
        config = uvicorn.Config(
            application(analyzer, local), log_level="warning", timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host, port, shown):
    """A socket that listens; UserError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        named = isinstance(error, OSError) and error.errno > 0
        reason = os.strerror(error.errno) if named else error
        raise files.UserError(
            f"{shown}:{port}: {reason}; choose another --port or --host"
        ) from None
