"""ImageNet's weights for EfficientNet-Lite0: read without running what a pickle says, and right."""

import collections
import importlib.util
import io
import os
import pickle  # noqa: TID251  to write what must not be run
import sys
import types

import cv2
import numpy as np
import pytest
import skimage.data

from ferlab import models
from ferlab.files import UserError
from ferlab.models import efficientnet_lite0
from ferlab.training import backend

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(efficientnet_lite0.PACKAGE) is None and os.environ.get("CI") != "true",
    reason="the weights are not installed (requirements-transfer.txt)",
)


def saved(monkeypatch, tensors):
    """The bytes of `torch.save({name: (storage key, storage, offset, shape, strides)})` of old."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    module.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    exec("def _rebuild_tensor_v2(*arguments): pass", utils.__dict__)
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Storage:
        def __init__(self, key, count):
            self.identifier = ("storage", module.FloatStorage, key, "cpu", count, None)

    class Tensor:
        def __init__(self, *parts):
            self.parts = parts

        def __reduce__(self):
            return utils._rebuild_tensor_v2, (*self.parts, False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identifier if isinstance(value, Storage) else None

    file = io.BytesIO()
    state = collections.OrderedDict(
        (name, Tensor(Storage(key, storage.size), offset, shape, strides))
        for name, (key, storage, offset, shape, strides) in tensors.items()
    )
    keys = {key: storage for key, storage, *_ in tensors.values()}
    for value in (119547037146038801333356, 1001, {}, state, list(keys)):
        Pickler(file, protocol=2).dump(value)
    for storage in keys.values():
        file.write(storage.size.to_bytes(8, "little") + storage.astype("<f4").tobytes())
    return file.getvalue()


def test_tensors_are_read_with_their_offsets_and_strides(monkeypatch):
    storage = np.arange(8, dtype=np.float32)
    tensors = {
        "a": ("0", storage, 0, (2, 3), (1, 2)),  # stored by columns
        "b": ("0", storage, 6, (2,), (1,)),
        "b.num_batches_tracked": ("0", storage, 0, (), ()),
    }
    read = efficientnet_lite0._read(saved(monkeypatch, tensors))
    assert {name: array.tolist() for name, array in read.items()} == {
        "a": [[0, 2, 4], [1, 3, 5]],
        "b": [6, 7],
    }


def test_a_pickle_that_would_run_something_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(pickle.UnpicklingError, match="is not allowed here"):
        efficientnet_lite0._read(pickle.dumps(Hostile()))
    assert not (tmp_path / "made").exists()


def test_weights_that_are_absent_or_others_are_one_line(monkeypatch, tmp_path):
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="requirements-transfer.txt"):
        models.set_pretrained("efficientnet_lite0", None)
    path = tmp_path / efficientnet_lite0.FILE
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="not the published weights"):
        models.set_pretrained("efficientnet_lite0", None)
    with pytest.raises(UserError, match="there are no such weights for the network small"):
        models.set_pretrained("small", None)


@needs_weights
@pytest.mark.slow
def test_a_photo_of_a_cat_is_one_to_imagenet_s_weights():
    """scikit-image's photo of Chelsea, in gray; 281, 282 and 285 are ImageNet's domestic cats."""
    backend.start("tensorflow")
    small = cv2.resize(skimage.data.chelsea()[:, 75:375], (96, 96), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    model = models.build("efficientnet_lite0", 1000, 0.0, 96)
    models.set_pretrained("efficientnet_lite0", model)
    tensors = efficientnet_lite0.pretrained_tensors()
    model.get_layer("logits").set_weights([tensors["_fc.weight"].T, tensors["_fc.bias"]])
    probabilities = np.asarray(model.predict_on_batch(gray[None, ..., None]))[0]
    assert probabilities[[281, 282, 285]].sum() > 0.9
