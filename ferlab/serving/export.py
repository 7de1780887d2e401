"""`python -m ferlab export`: a trained network as ONNX, as LiteRT, or as a folder that `mlflow models serve` serves.

The first two hold the network alone, in float32 whatever it was trained in: faces uint8 (n, 48, 48, 1), any n, to probabilities
float32 (n, classes); a network that was trained on equalised faces equalises them itself in there. They are compared with Keras
before they are put in their place. Finding faces in photos, and the mean over
a face and its mirror image, are left to who calls them; the folder does both (ferlab.serving).
"""

import importlib.util
import json
import logging
import os
import statistics
import tempfile
import timeit
import warnings
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from ferlab import files
from ferlab.evaluation import inference
from ferlab.models import SHAPE
from ferlab.serving.predict import Predictor, find_model

NAMES = {"onnx": "model.onnx", "litert": "model.tflite", "mlflow": "served"}  # in exports/
MAX_DIFFERENCE = 1e-4  # by which a probability may differ from Keras'
OPSET = 18  # of ONNX, the newest that tf2onnx writes
NEEDED = (
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


def export(model="", format="onnx", out=None):
    """Write the model (as of find_model), and print how large it is, whether it is equal, and how fast."""
    out, ending = Path(out or Path("exports") / NAMES[format]), Path(NAMES[format]).suffix
    if ending and (out.suffix != ending or out.is_dir()):
        raise files.UserError(
            f"{out}: {format} is a file that ends in {ending}; choose another --out"
        )
    if not ending and out.exists() and not (out / "MLmodel").is_file():
        raise files.UserError(f"{out}: exists and is no MLflow model; choose another --out")
    with find_model(model) as (path, _), files.replacing(out) as part:
        predictor = Predictor(path, "none")
        about = {
            "classes": list(predictor.classes),
            "model": Path(model).name or "the one that ships",
            "sha256": files.sha256(path),
        }  # of the .keras file
        if format == "mlflow":
            write_mlflow(path, about, part)
            said = f"next: mlflow models serve -m {out} --env-manager local -h 127.0.0.1 -p 5001"
        else:
            write, *runtime = FORMATS[format]
            network = in_float32(predictor.network)
            write(network, about, part, predictor.network.about.equalize)
            said = compare(predictor.network, network, *runtime, part)
    if format == "litert":
        files.write_json(
            out.with_name(f"{out.name}.json"), about
        )  # a .tflite has no place for names
    size = sum(file.stat().st_size for file in (out, *out.rglob("*")) if file.is_file())
    print(f"{out}: {size / 1e6:.1f} MB; classes {', '.join(about['classes'])}\n{said}")


def in_float32(network):
    """The same network and weights, computing in float32: neither runtime takes bfloat16. The weights are float32 as they are."""
    import keras

    plain = keras.models.clone_model(
        network,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "float32"}
        ),
    )
    plain.set_weights(network.get_weights())
    return plain


def _function(network, equalize):
    """What is exported, with names for its input and output."""
    import tensorflow as tf

    def given(faces):
        return {"probabilities": network(_equalized(faces) if equalize else faces, training=False)}

    return tf.function(
        given, input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8, name="faces")]
    )


def _equalized(faces):
    """ferlab.prepare's equalisation as TensorFlow operations that both formats know: faces uint8 (n, 48, 48, 1) -> the same.

    The histogram is a product of two one-hot matrices, of the upper and of the lower four bits: small, and exact in float32.
    """
    import tensorflow as tf

    pixels = tf.cast(tf.reshape(faces, (-1, SHAPE[0] * SHAPE[1])), tf.int32)
    upper, lower = tf.one_hot(pixels // 16, 16), tf.one_hot(pixels % 16, 16)
    below = tf.cumsum(
        tf.reshape(tf.matmul(upper, lower, transpose_a=True), (-1, 256)), axis=1
    )  # pixels up to a level
    total = float(SHAPE[0] * SHAPE[1])
    first = tf.reduce_min(
        tf.where(below > 0, below, total), axis=1, keepdims=True
    )  # of the lowest level that occurs
    levels = tf.round((below - first) * (255 / tf.maximum(total - first, 1)))
    levels = tf.where(
        first == total, tf.range(256, dtype=tf.float32)[None], levels
    )  # one level only: left as it is
    return tf.cast(tf.reshape(tf.gather(levels, pixels, batch_dims=1), (-1, *SHAPE)), tf.uint8)


def write_onnx(network, about, path, equalize=False):
    """`about` goes into the file's metadata; what is not text in it as JSON."""
    try:
        import tf2onnx
    except ImportError:
        raise files.UserError(
            "onnx: tf2onnx is not installed; pip install --require-hashes -r requirements-use.txt"
        ) from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)

    def erfc(graph, node, name, _):  # of Keras' GELU, and unknown to tf2onnx
        node.type = "Erf"
        one = graph.make_const(f"{name}/one", np.float32(1))
        graph.insert_new_node_on_output(
            "Sub", node.output[0], inputs=[one.output[0], node.output[0]], name=f"{name}/sub"
        )

    function = _function(network, equalize)
    found, _ = tf2onnx.convert.from_function(
        function, function.input_signature, OPSET, custom_op_handlers={"Erfc": (erfc, [])}
    )
    for end in (found.graph.input[0], found.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_param = "n"
    for key, value in about.items():
        found.metadata_props.add(
            key=key, value=value if isinstance(value, str) else json.dumps(value)
        )
    path.write_bytes(found.SerializeToString())


def run_onnx(path):
    """A function: faces uint8 (n, 48, 48, 1) -> probabilities (n, C)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda faces: session.run(None, {"faces": faces})[0]


def write_litert(network, about, path, equalize=False):
    """Built-in operations only, nothing quantised."""
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        archive.add_endpoint("serve", _function(network, equalize))
        archive.write_out(folder, verbose=False)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def run_litert(path):
    """As run_onnx; a first call with another n takes longer, as room is made for it."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will be a package of its own one day
        interpreter = tf.lite.Interpreter(
            model_content=path.read_bytes(), num_threads=os.cpu_count()
        )
    signature = interpreter.get_signature_runner()
    return lambda faces: signature(faces=faces)["probabilities"]


def compare(keras, plain, name, runtime, path):
    """Text about equality and speed; raises UserError where what was written gives something else than Keras does in float32.

    keras, plain: the network as it is, and in float32. name, runtime: as of FORMATS.
    """
    try:
        run = runtime(path)
    except ImportError as error:
        return f"not compared with Keras, as {error.name} is not installed; requirements-dev.txt has it"
    coarse = np.random.default_rng(0).integers(0, 256, (256, 8, 8), dtype=np.uint8)
    faces = np.stack(
        [cv2.resize(face, SHAPE[:2], interpolation=cv2.INTER_CUBIC) for face in coarse]
    )[..., None]
    seen = inference.prepare(keras, faces[..., 0])[..., None]
    expected = np.asarray(plain.predict_on_batch(seen))
    differs = float(np.abs(run(faces) - expected).max())
    if not differs <= MAX_DIFFERENCE:
        raise files.UserError(
            f"{name} differs from Keras by {differs:.1g}, at most {MAX_DIFFERENCE:g} is allowed; nothing was written"
        )
    lines = [f"equal to Keras in float32 on {len(faces)} faces (to {differs:.0e})"]
    if "bfloat16" in {layer.compute_dtype for layer in keras.layers}:
        rounded = float(np.abs(np.asarray(keras.predict_on_batch(seen)) - expected).max())
        lines.append(
            f"the model itself computes in bfloat16: its probabilities differ from that by up to {rounded:.0e}"
        )
    for who, call in (("Keras", keras.predict_on_batch), (name, run)):
        one, many = (
            statistics.median(timeit.repeat(lambda: call(given), number=1, repeat=times + 2)[2:])  # noqa: B023
            for given, times in ((faces[:1], 50), (faces, 3))
        )
        lines.append(
            f"  {who:<12} one face {1000 * one:6.2f} ms, batches of {len(faces)} {len(faces) / many:7,.0f} faces/s"
        )
    return "\n".join(lines)


def write_mlflow(path, about, folder):
    """A folder that stands on its own: the .keras file, ferlab's code, and the versions it needs; no pickle."""
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import pyfunc

    from ferlab.serving import served_model

    needed = [*NEEDED, "mtcnn"] if importlib.util.find_spec("mtcnn") else NEEDED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like an example of a picture
        pyfunc.save_model(
            folder,
            python_model=served_model.__file__,
            artifacts={"model": str(path)},
            model_config=about,
            signature=served_model.signature(),
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in needed],
        )
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    for place in (served_model.__file__, str(path)):  # of this machine, and needed nowhere
        text = text.replace(place, Path(place).name)
    (folder / "MLmodel").write_text(text, encoding="utf-8")


FORMATS = {
    "onnx": (write_onnx, "onnxruntime", run_onnx),
    "litert": (write_litert, "LiteRT", run_litert),
}
