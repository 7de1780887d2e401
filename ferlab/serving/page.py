"""`python -m ferlab demo`: a page on this machine that shows what a network predicts for a photo or
the webcam's picture.

Pictures are answered and forgotten: none is written anywhere.
"""

import logging
import os
import re
import secrets
import socket

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ferlab import files
from ferlab.reporting import pages
from ferlab.serving.analyzer import Analyzer
from ferlab.serving.light import onnx_file

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
    # nobody is there to read it
    app.exception_handler(ClientDisconnect)(lambda request, raised: error(499, "no client"))

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
    looks = "HiResCAM" if onnx_file.has_keras() else "what hiding a place costs"

    @app.get("/")
    def page():
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(
            html.render(nonce=nonce, local=local, most=MAX_BYTES, looks=looks, browser=None),
            headers={"Content-Security-Policy": POLICY.format(nonce)},
        )

    @app.get("/models")
    def models():
        return {"models": analyzer.names()}

    @app.post("/predict")  # no `async`: runs in a thread of its own
    def predict(content: bytes = Depends(_body), model: str = "", cam: str = "0", live: str = "0"):
        return analyzer(content, model, cam == "1", live == "1")


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


def serve(host, port, model="", detector=None, said=None, min_face=None):
    """Show the page until Ctrl-C. port: 0 for any that is free. The others as in Analyzer; raises
    UserError.
    """
    import uvicorn

    shown = f"[{host}]" if ":" in host else host
    with _listening(host, port, shown) as listening:
        local = bool(LOOPBACK.fullmatch(shown))
        analyzer = Analyzer(model, detector, said, min_face)
        if detector is None and analyzer.detector.name == "haar":
            better = "; a better detector: pip install --require-hashes -r requirements-use.txt"
            print(f"faces are found by OpenCV's cascade{better if onnx_file.has_keras() else ''}")
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
            f"{shown}:{port}: {reason}; choose another --port or --host: "
            "python -m ferlab demo --port 7861"
        ) from None
