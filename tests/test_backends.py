"""The same network, weights and batch on TensorFlow and on JAX: the same loss, before and after one step of training."""

import json
import subprocess
import sys

import pytest

from ferlab import params
from tests.repository import TOP

# Two losses of one batch: with the given weights, and after the step that the first one caused.
STEP = """
import json, sys
from pathlib import Path
import numpy as np
name, optimizer, folder, weights = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
from ferlab import backend, models, params, training
settings = params.load().train.model_copy(update={"optimizer": optimizer, "backend": folder})
keras = backend.start(settings.backend)
network = models.build(name, 7, 0.0)
if weights.exists():
    with np.load(weights) as file:
        network.set_weights([file[str(i)] for i in range(len(file.files))])
else:
    np.savez(weights, **{str(i): value for i, value in enumerate(network.get_weights())})
judge = keras.Model(network.input, network.get_layer("logits").output)
learner, chosen = training._compiled(keras, judge, settings, 48)
chosen.learning_rate = 0.001
random = np.random.default_rng(0)
faces, targets = random.integers(0, 256, (8, 48, 48, 1), dtype=np.uint8), np.eye(7, dtype=np.float32)[random.integers(0, 7, 8)]
print(json.dumps([float(learner.train_on_batch(faces, targets, sample_weight=np.ones(8, np.float32))[0]) for _ in range(2)]))
"""


@pytest.mark.parametrize(("name", "optimizer"), [("small", "adamw"), ("small", "muon"), ("silva_2025", "adam")])
def test_a_step_on_jax_is_a_step_on_tensorflow(tmp_path, name, optimizer):
    assert name in params.models()
    losses = {}
    for backend in ("tensorflow", "jax"):
        done = subprocess.run([sys.executable, "-c", STEP, name, optimizer, backend, str(tmp_path / "weights.npz")], cwd=TOP,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        losses[backend] = json.loads(done.stdout.splitlines()[-1])
    assert losses["jax"] == pytest.approx(losses["tensorflow"], abs=1e-4)
    assert losses["jax"][1] != losses["jax"][0]
