"""`python -m ferlab export`: a trained network as ONNX, as LiteRT, or as a folder that `mlflow
models serve` serves.

The first two are compared with Keras before they are put in their place. Finding faces in photos,
and the mean over a face and its mirror image, are left to their callers; the folder does both.
"""

import contextlib
import importlib.util
import os
import re
import statistics
import tempfile
import timeit
import warnings
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from ferlab import files
from ferlab.evaluation.network.about import describe, prepare, read_about
from ferlab.models import SHAPE
from ferlab.progress import counted
from ferlab.serving.export_formats import FORMATS, in_float32
from ferlab.serving.model_lookup import find_model
from ferlab.serving.predictor import Predictor

NAMES = {"onnx": "model.onnx", "litert": "model.tflite", "mlflow": "served"}  # in exports/
MAX_DIFFERENCE = 1e-4  # by which a probability may differ from Keras'
FACES = 256  # on which a file is compared with Keras
REQUIREMENTS = (  # of the folder
    "mlflow",
    "tensorflow",
    "keras",
    "numpy",
    "pandas",
    "pillow",
    "opencv-python-headless",
    "pydantic",
    "ruamel.yaml",
)


def export(model="", format="onnx", out=None, said=None):
    """Write the model (as in find_model), and print how large it is, whether it is equal, and how
    fast.

    format: of NAMES. out: a path, else NAMES says which in exports/. said: as in Predictor; the
    export then says it itself. Raises UserError.
    """
    out = _checked(Path(out or Path("exports") / NAMES[format]), format)
    with find_model(model) as (path, _), files.replacing(out) as part:
        if path.suffix == ".onnx":
            raise files.UserError(f"{model}: is an export already; name the .keras file it is from")
        predictor = Predictor(path, "none", said)
        about = {
            "classes": list(predictor.classes),
            "model": Path(model).name or "the released model",
            "sha256": files.sha256(path),  # of the .keras file
        }
        if format == "mlflow":
            with _described(path, predictor.network.about) as described:
                # what is served: a copy, where the file says nothing of itself
                about["sha256"] = files.sha256(described)
                write_mlflow(described, about, part)
            remark = f"next: mlflow models serve -m {out} --env-manager local -h 127.0.0.1 -p 5001"
        else:
            write, *runtime = FORMATS[format]
            network = in_float32(predictor.network)
            write(network, about, part, predictor.network.about)
            remark = compare(predictor.network, network, *runtime, part)
    if format == "litert":  # a .tflite has no place for names
        files.write_json(out.with_name(f"{out.name}.json"), about)
    size = sum(file.stat().st_size for file in (out, *out.rglob("*")) if file.is_file())
    print(f"{out}: {size / 1e6:.1f} MB; classes {', '.join(about['classes'])}\n{remark}")


def _checked(out, format):
    """`out`, or UserError where it has the wrong ending or would replace what is no export."""
    if format == "onnx" and not importlib.util.find_spec("tf2onnx"):
        raise files.UserError(
            "onnx: tf2onnx is not installed; pip install --require-hashes -r requirements-use.txt"
        )
    ending = Path(NAMES[format]).suffix
    if ending and (out.suffix != ending or out.is_dir()):
        raise files.UserError(
            f"{out}: {format} is a file that ends in {ending}; choose another --out"
        )
    if not ending and out.exists() and not (out / "MLmodel").is_file():
        raise files.UserError(f"{out}: exists and is no MLflow model; choose another --out")
    return out


@contextlib.contextmanager
def _described(path, about):
    """Yield the model's file, or where it does not say so itself, a copy that says `about`."""
    if read_about(path).classes:
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / path.name
        describe(path, about, copy)
        yield copy


def compare(network, converted, runtime, load, path):
    """Text about equality and speed; UserError where the file gives something else than Keras in
    float32.

    network, converted: the Keras network as it is, and in float32. runtime, load: as in FORMATS.
    """
    try:
        run = load(path)
    except ImportError as error:
        missing = f"not compared with Keras, as {error.name} is not installed"
        return f"{missing}; requirements-dev.txt has it"
    faces = _random_faces()
    prepared = prepare(network, faces[..., 0])[..., None]
    expected = np.asarray(converted.predict_on_batch(prepared))
    difference = float(np.abs(run(faces) - expected).max())
    if not difference <= MAX_DIFFERENCE:
        raise files.UserError(
            f"{runtime} differs from Keras by {difference:.1g}, "
            f"at most {MAX_DIFFERENCE:g} is allowed; nothing was written"
        )
    lines = [f"equal to Keras in float32 on {counted(len(faces), 'face')} (to {difference:.0e})"]
    if "bfloat16" in {layer.compute_dtype for layer in network.layers}:
        own = np.asarray(network.predict_on_batch(prepared))
        lines.append(
            "the model itself computes in bfloat16: its probabilities differ from that by up to "
            f"{float(np.abs(own - expected).max()):.0e}"
        )
    lines += [_speed("Keras", network.predict_on_batch, faces), _speed(runtime, run, faces)]
    return "\n".join(lines)


def _random_faces():
    """uint8 (FACES, 48, 48, 1): random, but as smooth as pictures are."""
    coarse = np.random.default_rng(0).integers(0, 256, (FACES, 8, 8), dtype=np.uint8)
    smooth = [cv2.resize(face, SHAPE[:2], interpolation=cv2.INTER_CUBIC) for face in coarse]
    return np.stack(smooth)[..., None]


def _speed(name, call, faces):
    """A line: the medians of some calls, after two that are not counted."""

    def seconds(batch, times):
        return statistics.median(timeit.repeat(lambda: call(batch), number=1, repeat=times + 2)[2:])

    one, many = seconds(faces[:1], 50), seconds(faces, 3)
    return (
        f"  {name:<12} one face {1000 * one:6.2f} ms, "
        f"batches of {len(faces)} {len(faces) / many:7,.0f} faces/s"
    )


def write_mlflow(path, about, folder):
    """A folder that stands on its own: the .keras file, ferlab's code, and the versions it needs;
    no pickle.
    """
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import pyfunc

    from ferlab.serving import served_model

    packages = [*REQUIREMENTS, "mtcnn"] if importlib.util.find_spec("mtcnn") else REQUIREMENTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like an example of a picture
        pyfunc.save_model(
            folder,
            python_model=served_model.__file__,
            artifacts={"model": str(path)},
            model_config=about,
            signature=served_model.signature(),
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in packages],
        )
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    for local_path in (served_model.__file__, str(path)):  # of this machine, and needed nowhere
        text = text.replace(local_path, Path(local_path).name)
    # a random id and the time, which MLflow can do without: equal models give equal bytes
    text = re.sub(r"(?m)^(model_uuid|utc_time_created): .*\n", "", text)
    (folder / "MLmodel").write_text(text, encoding="utf-8")
