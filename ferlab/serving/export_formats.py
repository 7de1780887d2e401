"""A network as an ONNX or LiteRT file, and such a file as a function to call.

Both hold the network alone, in float32 whatever it was trained in: faces uint8 (n, 48, 48, 1), any
n, to probabilities float32 (n, C). What is done to faces before the network sees them (equalising,
scaling) happens in there.
"""

import json
import logging
import os
import tempfile
import warnings

import numpy as np

from ferlab.evaluation.network.about import SCALINGS, About
from ferlab.models import SHAPE

AS_IT_IS = About()  # of a network that wants its faces neither equalised nor scaled
OPSET = 18  # of ONNX, the newest that tf2onnx writes


def in_float32(network):
    """The same network and weights, computing in float32: neither runtime takes bfloat16.

    The weights are float32 as they are.
    """
    import keras

    def layer_in_float32(layer):
        if isinstance(layer, keras.Model):  # a network within one
            return in_float32(layer)
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    converted = keras.models.clone_model(network, clone_function=layer_in_float32)
    converted.set_weights(network.get_weights())
    return converted


def write_onnx(network, about, path, use=AS_IT_IS):
    """`about` (a dict) goes into the file's metadata; what is not text in it, as JSON. use: how the
    network wants its faces.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = _function(network, use)
    model, _ = tf2onnx.convert.from_function(
        function, function.input_signature, OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
    )
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    for key, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    _name_by_place(model.graph)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _name_by_place(graph):
    """Order and name all that is within an ONNX graph by its place, counted from the outputs.

    tf2onnx numbers and orders it anew each time; so equal networks give equal bytes.
    """
    kept = {value.name for value in (*graph.input, *graph.output)}
    maker = {name: node for node in graph.node for name in node.output}
    names, nodes, done = {}, [], set()
    waiting = [maker[value.name] for value in reversed(graph.output)]
    while waiting:
        node = waiting[-1]
        before = [maker[name] for name in reversed(node.input) if name in maker]
        before = [other for other in before if other.output[0] not in done]
        if before:
            waiting += before
            continue
        waiting.pop()
        if node.output[0] not in done:
            done.add(node.output[0])
            nodes.append(node)
            for name in (*node.input, *node.output):
                names.setdefault(name, name if name in kept or not name else f"v{len(names)}")
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
        for field in ("domain", "doc_string"):
            if not getattr(node, field):
                node.ClearField(field)  # empty or not there: the same, but other bytes
        _replace(node, "attribute", sorted(node.attribute, key=lambda each: each.name))
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    constants = [constant for constant in graph.initializer if constant.name in names]
    constants.sort(key=lambda constant: list(names).index(constant.name))
    for constant in constants:
        constant.name = names[constant.name]
    for field, values in (("node", nodes), ("initializer", constants), ("value_info", [])):
        _replace(graph, field, values)
    graph.doc_string = ""


def _replace(message, field, values):
    """Set a repeated field of a protobuf message to values that are its own."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    message.ClearField(field)
    getattr(message, field).extend(copies)


def run_onnx(path):
    """A function: faces uint8 (n, 48, 48, 1) -> probabilities (n, C)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda faces: session.run(None, {"faces": faces})[0]


def write_litert(network, about, path, use=AS_IT_IS):
    """Built-in operations only, nothing quantised; the format has no place for `about`."""
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        archive.add_endpoint("serve", _function(network, use))
        archive.write_out(folder, verbose=False)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def run_litert(path):
    """As run_onnx; a first call with another n takes longer, as memory is reserved for it."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will be a package of its own one day
        interpreter = tf.lite.Interpreter(
            model_content=path.read_bytes(), num_threads=os.cpu_count()
        )
    signature = interpreter.get_signature_runner()
    return lambda faces: signature(faces=faces)["probabilities"]


def _function(network, use):
    """The network as a TensorFlow function, with names for its input and output."""
    import tensorflow as tf

    def probabilities(faces):
        prepared = _equalized(faces) if use.equalize else faces
        if use.scaling != "raw":
            factor, offset = SCALINGS[use.scaling]
            prepared = tf.cast(prepared, tf.float32) * factor + offset
        return {"probabilities": network(prepared, training=False)}

    return tf.function(
        probabilities, input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8, name="faces")]
    )


def _equalized(faces):
    """The equalisation of ferlab.data.prepare as TensorFlow operations that both formats know.

    faces: uint8 (n, 48, 48, 1) -> the same. The histogram is a product of two one-hot matrices, of
    the upper and of the lower four bits: small, and exact in float32.
    """
    import tensorflow as tf

    pixels = tf.cast(tf.reshape(faces, (-1, SHAPE[0] * SHAPE[1])), tf.int32)
    upper, lower = tf.one_hot(pixels // 16, 16), tf.one_hot(pixels % 16, 16)
    histogram = tf.reshape(tf.matmul(upper, lower, transpose_a=True), (-1, 256))
    cumulative = tf.cumsum(histogram, axis=1)
    total = float(SHAPE[0] * SHAPE[1])
    # how many pixels have the lowest level that occurs
    lowest = tf.reduce_min(tf.where(cumulative > 0, cumulative, total), axis=1, keepdims=True)
    levels = tf.round((cumulative - lowest) * (255 / tf.maximum(total - lowest, 1)))
    # a face of one level is left as it is
    levels = tf.where(lowest == total, tf.range(256, dtype=tf.float32)[None], levels)
    return tf.cast(tf.reshape(tf.gather(levels, pixels, batch_dims=1), (-1, *SHAPE)), tf.uint8)


def _erfc(graph, node, name, _):
    """For tf2onnx, which does not know this operation of Keras' GELU: 1 - erf."""
    node.type = "Erf"
    one = graph.make_const(f"{name}/one", np.float32(1))
    graph.insert_new_node_on_output(
        "Sub", node.output[0], inputs=[one.output[0], node.output[0]], name=f"{name}/sub"
    )


# name: (writer, the runtime's name, a function that makes a file callable)
FORMATS = {
    "onnx": (write_onnx, "onnxruntime", run_onnx),
    "litert": (write_litert, "LiteRT", run_litert),
}
