"""What `make bench` measures beside training: the machine, the feed, the other stages, and DVC with
nothing to do.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import FACES
from ferlab import files
from ferlab.data import augment
from ferlab.data.dataset import SIZE, Dataset
from ferlab.workspace import verify

MOTION = {"flip": True, "rotation": 10, "shift": 0.08, "zoom": 0.1}
MATRIX = 4096  # rows and columns of the matrices that are multiplied
UNTRAINED = """
from pathlib import Path
from ferlab import models, params
from ferlab.data.dataset import Dataset
from ferlab.training import backend, loop, model_file
settings = params.load().train
backend.start(settings.backend, settings.precision, settings.seed)
Path("models").mkdir(exist_ok=True)
dataset = Dataset.load(Path("data/balanced"))
about = model_file.about(dataset, settings)
network = models.build(settings.model, len(dataset.classes), settings.dropout)
model_file.save(network, Path("models/model.keras"), about)
Path("models/history.csv").write_text(",".join(loop.HISTORY) + "\\n1,0.1,1,0.5,1,0.5,1\\n")
"""


def alone(call, *arguments):
    """What `call` returns in a process of its own: Keras keeps its backend in a process, TensorFlow
    its memory.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def peak():
    """{precision: GFLOP/s} of the best of three square matrix products."""
    from ferlab.training import backend

    backend.start("tensorflow")
    import tensorflow as tf

    peaks = {}
    for precision in ("float32", "bfloat16"):
        matrix = tf.cast(tf.random.normal((MATRIX, MATRIX)), precision)
        tf.matmul(matrix, matrix)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            tf.matmul(matrix, matrix).numpy()
            seconds.append(time.perf_counter() - began)
        peaks[precision] = round(2 * MATRIX**3 / min(seconds) / 1e9)
    return peaks


def feeds():
    """{how: milliseconds} to move 128 faces at random: OpenCV (as ferlab does), numpy, TensorFlow's
    graph.
    """
    from ferlab.training import backend

    keras = backend.start("tensorflow")
    import tensorflow as tf

    faces = np.array(Dataset.load(FACES).split("train").faces[:128])
    uniforms = augment.parameters((0,), 128)
    matrices = augment._matrices(uniforms, *MOTION.values())
    batch = keras.ops.convert_to_tensor(faces[..., None], "float32")
    transforms = keras.ops.convert_to_tensor(
        np.concatenate([matrices.reshape(-1, 6), np.zeros((128, 2))], 1), "float32"
    )
    in_graph = tf.function(
        lambda faces, matrices: keras.ops.image.affine_transform(
            faces, matrices, "bilinear", "nearest"
        )
    )
    return {
        "OpenCV": _milliseconds(lambda: augment.apply(faces, uniforms, **MOTION)),
        "numpy": _milliseconds(lambda: numpy_warp(faces, matrices)),
        "in the graph": _milliseconds(lambda: in_graph(batch, transforms).numpy()),
    }


def numpy_warp(faces, matrices):
    """uint8 (n, 48, 48): faces moved by affine matrices (n, 2, 3), bilinear, edges repeated."""
    grid = np.mgrid[:SIZE, :SIZE].reshape(2, -1)[::-1]  # x, y
    x, y = np.clip(np.moveaxis(matrices[:, :, :2] @ grid + matrices[:, :, 2:], 1, 0), 0, SIZE - 1)
    left, top = np.minimum(x.astype(int), SIZE - 2), np.minimum(y.astype(int), SIZE - 2)
    fx, fy, rows = x - left, y - top, np.arange(len(faces))[:, None]
    upper = faces[rows, top, left] * (1 - fx) + faces[rows, top, left + 1] * fx
    lower = faces[rows, top + 1, left] * (1 - fx) + faces[rows, top + 1, left + 1] * fx
    return np.rint(upper * (1 - fy) + lower * fy).astype(np.uint8).reshape(faces.shape)


def _milliseconds(call, count=20):
    call()
    began = time.perf_counter()
    for _ in range(count):
        call()
    return round(1000 * (time.perf_counter() - began) / count, 2)


def pipeline():
    """{stage: seconds} of every stage but train on the real FER2013, each a process, in a copy of
    this tree.

    `predict` takes the default network untrained, which costs the same.
    """
    seconds = {}
    with tempfile.TemporaryDirectory(prefix="ferlab-bench-") as folder:
        environment = _clone(folder)
        for stage in ("download", "eda", "balance"):
            seconds[stage] = _stage_seconds(stage, folder, environment)
        subprocess.run([sys.executable, "-c", UNTRAINED], cwd=folder, env=environment, check=True)
        for stage in ("predict", "evaluate"):
            seconds[stage] = _stage_seconds(stage, folder, environment)
    return seconds | {"all but train": round(sum(seconds.values()), 1)}


def _clone(folder):
    """Copy this tree, with FER2013 as its data; the environment for its stages."""
    verify.clone(Path(folder))
    path = Path(folder, "params.yaml")
    text = re.sub(r"(?m)^  dataset: .*", "  dataset: fer2013", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_TRACKING", "DVC_"))
    }
    place = os.environ["FER2013"]
    if "://" not in place:
        place = str(Path(place).resolve())
    return environment | {"DVC_ROOT": folder, "FER2013": place}


def _stage_seconds(stage, folder, environment):
    command, began = [sys.executable, "-m", f"stages.{stage}"], time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise files.UserError(f"bench, {stage}: {reason}")
    return round(time.perf_counter() - began, 1)


def no_op():
    """{"here", "empty pipeline"}: seconds of `dvc repro` with nothing to do, the best of three in
    turn.

    None where the workspace is not up to date.
    """
    dvc = str(Path(sys.executable).with_name("dvc"))
    if subprocess.run([dvc, "status", "--quiet", "dvc.yaml"]).returncode:
        return None
    with tempfile.TemporaryDirectory(prefix="ferlab-bench-") as folder:
        Path(folder, "dvc.yaml").write_text(
            "stages:\n  nothing:\n    cmd: touch out\n    outs: [out]\n"
        )
        for command in (["git", "init", "-q"], [dvc, "init", "-q"], [dvc, "repro", "-q"]):
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        best = {"here": 99.0, "empty pipeline": 99.0}
        for _ in range(3):
            for name, repository in (("here", "."), ("empty pipeline", folder)):
                began = time.perf_counter()
                subprocess.run([dvc, "repro", "-q"], cwd=repository, check=True)
                best[name] = min(best[name], time.perf_counter() - began)
    return {name: round(seconds, 2) for name, seconds in best.items()}
