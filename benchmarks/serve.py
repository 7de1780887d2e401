"""`python -m benchmarks.serve`: how many pictures a second `mlflow models serve` answers here, and
how many faces we classify.

Exports the model, serves it on loopback, and lets CLIENTS ask at the same time, each its next
picture when the last is answered: a photo of 512x512 with one face (scikit-image's astronaut, needs
requirements-dev.txt), then a face of 48x48 that needs no search. Half a minute on two cores with
haar.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import run, say
from ferlab import files
from ferlab.data.readers import images
from ferlab.tracking import provenance

CLIENTS, REQUESTS = 8, 400  # at a time; of each kind of picture
BATCH = 256  # faces
START_TIMEOUT = 300  # seconds that the server may take to start


@contextlib.contextmanager
def served(folder):
    """Yield the port on which `mlflow models serve` answers for this folder, as a process of its
    own that ends with the block. Raises UserError where it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", str(Path(folder).absolute())]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # elsewhere: it needs no checkout
    with tempfile.TemporaryDirectory() as elsewhere, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=elsewhere, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise files.UserError(
                        f"mlflow models serve -m {folder}: did not start: {log.read()[-300:]}"
                    )
                time.sleep(0.1)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _answers(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False


def ask(port, body, connection=None):
    """(status, answer) of one request; body: what the JSON says."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request(
        "POST", "/invocations", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def encoded(picture):
    """base64 of the PNG of a picture, uint8 (H, W) or (H, W, 3)."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def load(port, body, clients=CLIENTS, requests=REQUESTS):
    """(seconds in all, seconds of each request, sorted) of `requests` equal ones from `clients` at
    a time.
    """
    latencies, numbers, failed = [], iter(range(requests)), []

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        for _ in numbers:
            began = time.perf_counter()
            status, answer = ask(port, body, connection)
            latencies.append(time.perf_counter() - began)
            if status != 200:
                failed.append(answer)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = time.perf_counter() - began
    if failed or len(latencies) != requests:
        count = requests - len(latencies) + len(failed)
        raise files.UserError(f"{count} of {requests} requests failed: {failed[:1]}")
    return total, sorted(latencies)


def main(model, detector, requests):
    import skimage.data

    from ferlab.serving.export import export
    from ferlab.serving.predictor import Predictor

    machine = provenance.machine()
    say(f"{machine['cpu']}, {machine['cores']} cores; detector {detector}")
    photo = skimage.data.astronaut()
    face = images.cut(photo, (171, 64, 107))
    predictor = Predictor(model, "none")
    one = _seconds(predictor, face[None], 100)
    many = _seconds(predictor, np.repeat(face[None], BATCH, axis=0), 10)
    say(
        f"classifying, each face and its mirror image: {BATCH / many:,.0f} faces/s "
        f"in batches of {BATCH}, one face {1000 * one:.1f} ms"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "served"
        with contextlib.redirect_stdout(None):
            export(model, "mlflow", folder)
        with served(folder) as port:
            _measure(port, "photo of 512x512", photo, detector, requests)
            _measure(port, "face of 48x48", face, "none", requests)


def _measure(port, name, picture, detector, requests):
    body = {"inputs": [encoded(picture)], "params": {"detector": detector}}
    load(port, body, requests=2 * CLIENTS)  # what the first ones build is not counted
    total, latencies = load(port, body, requests=requests)
    median, late = statistics.median(latencies), latencies[int(0.99 * len(latencies))]
    say(
        f"{name}, {requests} requests from {CLIENTS} clients: {requests / total:.1f} a second, "
        f"median {1000 * median:.0f} ms, 99 % within {1000 * late:.0f} ms"
    )


def _seconds(predictor, faces, times):
    """The median of some calls, after two that are not counted."""
    seconds = []
    for _ in range(times + 2):
        began = time.perf_counter()
        predictor.probabilities(faces)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="", help="as in `python -m ferlab predict`")
    parser.add_argument("--detector", default="haar", help="of the photo")
    parser.add_argument("--requests", default=REQUESTS, type=int)
    run(lambda: main(**vars(parser.parse_args())))
