"""The same network, weights and batch give the same losses on TensorFlow and on JAX.

And several devices or processes train as one.
"""

import json
import os
import subprocess
import sys

import pytest

from ferlab import params
from ferlab.files import UserError
from ferlab.training import backend
from tests.repository import TOP
from tests.servers import free_port
from tests.synthetic import make

# Three epochs whose last batch is short; with "killed", killed after the second and resumed.
SPREAD = """
import hashlib, json, sys
from pathlib import Path
from ferlab import params
from ferlab.training import backend, loop, model_file
from ferlab.training.callbacks import Callbacks
from tests.synthetic import make
changes = {"backend": "jax", "devices": int(sys.argv[1]), "batch_size": 8, "epochs": 3}
changes["low_resolution"] = 0.0
settings = params.load().train.model_copy(update=changes)
dataset, checkpoint = make({"angry": (9, 4, 4), "happy": (26, 10, 10)}), Path(sys.argv[2])
dataset.faces[dataset.labels == 1] //= 3
def fit(callbacks=None):
    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    return loop.fit(dataset, settings, checkpoint, callbacks)
class Killed(Exception): pass
def die(row, seconds):
    if row["epoch"] == 2: raise Killed
if sys.argv[3:]:
    try: fit(Callbacks(on_epoch=die))
    except Killed: pass
model, history, _ = fit()
model_file.save(model, checkpoint.with_suffix(".keras"))
md5 = hashlib.md5(checkpoint.with_suffix(".keras").read_bytes()).hexdigest()
print(json.dumps([md5, history["running_loss"].tolist(), history["selection_loss"].tolist()]))
"""
# Two losses of one batch: with the given weights, and after a step of training.
STEP = """
import json, sys
from pathlib import Path
import numpy as np
from ferlab import models, params
from ferlab.training import backend, network
changes = {"model": sys.argv[1], "optimizer": sys.argv[2], "backend": sys.argv[3]}
settings, weights = params.load().train.model_copy(update=changes), Path(sys.argv[4])
backend.start(settings.backend)
built = models.build(settings.model, 7, 0.0)
if weights.exists():
    with np.load(weights) as file:
        built.set_weights([file[str(i)] for i in range(len(file.files))])
else:
    np.savez(weights, **{str(i): value for i, value in enumerate(built.get_weights())})
model = network.compiled(network.to_logits(built), settings, 48)
model.optimizer.learning_rate = 0.001
random = np.random.default_rng(0)
faces = random.integers(0, 256, (8, 48, 48, 1), dtype=np.uint8)
targets = np.eye(7, dtype=np.float32)[random.integers(0, 7, 8)]
ones = np.ones(8, np.float32)
print(json.dumps([float(backend.step(model, faces, targets, ones)["loss"]) for _ in range(2)]))
"""


def spread(devices, checkpoint, *killed):
    two = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return subprocess.run(
        [sys.executable, "-c", SPREAD, str(devices), checkpoint, *killed],
        cwd=TOP,
        env=two,
        text=True,
        capture_output=True,
    )


def together(folder, *killed):
    """What two processes with a device each print, which train together.

    Each has a checkpoint of its own.
    """
    port, processes = free_port(), []
    for index in range(2):
        environment = os.environ | {"FERLAB_PROCESSES": f"127.0.0.1:{port},2,{index}"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", SPREAD, "2", str(folder / f"{index}.npz"), *killed],
                cwd=TOP,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    outputs = [process.communicate(timeout=900) for process in processes]
    assert all(not process.returncode for process in processes), (
        outputs[0][1][-2000:] + outputs[1][1][-2000:]
    )
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


@pytest.mark.slow
def test_two_devices_train_as_one_and_resume_to_the_same_bytes(tmp_path):
    results = {}
    for name, devices, killed in (("one", 1, []), ("two", 2, []), ("killed", 2, ["killed"])):
        finished = spread(devices, str(tmp_path / f"{name}.npz"), *killed)
        assert finished.returncode == 0, finished.stderr[-2000:]
        results[name] = json.loads(finished.stdout.splitlines()[-1])
    for losses in (1, 2):
        assert results["two"][losses] == pytest.approx(results["one"][losses], abs=1e-5)
    assert results["killed"] == results["two"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_as_many_threads_give_the_same_bits_on_fewer_cores(tmp_path):
    """TensorFlow's sums depend on the number of threads, not on that of cores."""
    script, found = SPREAD.replace('"backend": "jax"', '"backend": "tensorflow"'), {}
    for name, cores in (("all", os.sched_getaffinity(0)), ("one", {min(os.sched_getaffinity(0))})):
        finished = subprocess.run(
            [sys.executable, "-c", script, "1", str(tmp_path / f"{name}.npz")],
            cwd=TOP,
            env=os.environ | {"TF_NUM_INTRAOP_THREADS": "2"},
            text=True,
            capture_output=True,
            preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
        )
        assert finished.returncode == 0, finished.stderr[-2000:]
        found[name] = json.loads(finished.stdout.splitlines()[-1])
    assert found["one"] == found["all"]


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_to_the_same_bytes(tmp_path):
    finished = spread(1, str(tmp_path / "one.npz"))
    assert finished.returncode == 0, finished.stderr[-2000:]
    one, (first, second) = json.loads(finished.stdout.splitlines()[-1]), together(tmp_path)
    assert first == second
    for losses in (1, 2):
        assert first[losses] == pytest.approx(one[losses], abs=1e-5)
    for index in range(2):
        (tmp_path / f"{index}.npz").unlink()
    assert together(tmp_path, "killed") == [first, first]


def test_a_malformed_list_of_processes_is_one_line(monkeypatch):
    for wrong in ("here", "127.0.0.1:1,2", "127.0.0.1:1,2,2", "127.0.0.1:1,two,0"):
        monkeypatch.setenv("FERLAB_PROCESSES", wrong)
        with pytest.raises(UserError, match="must be <host>:<port>,<processes>,<this one, from 0>"):
            backend._join()


def test_processes_with_one_device_are_refused(tmp_path):
    make({"angry": 2, "happy": 2}).save(tmp_path / "data/balanced")
    for name in ("params.yaml", "ferlab", "stages"):
        (tmp_path / name).symlink_to(TOP / name)
    finished = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"FERLAB_PROCESSES": "127.0.0.1:1,2,0"},
    )
    assert finished.returncode == 1 and finished.stderr.startswith(
        "error: FERLAB_PROCESSES: needs train.backend: jax"
    )


@pytest.mark.slow
def test_devices_that_are_not_there_are_one_line(tmp_path):
    assert (
        "train.devices = 3: JAX sees 2 (cpu:0, cpu:1); set train.devices no higher"
        in spread(3, str(tmp_path / "x")).stderr
    )
    with pytest.raises(
        UserError, match="train.devices = 2: only JAX spreads a batch; set train.backend: jax"
    ):
        backend.start("tensorflow", devices=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "optimizer"), [("small", "muon"), ("small", "adamw"), ("silva_2025", "adam")]
)
def test_a_step_on_jax_is_a_step_on_tensorflow(tmp_path, name, optimizer):
    assert name in params.models()
    losses = {}
    for other in ("tensorflow", "jax"):
        finished = subprocess.run(
            [sys.executable, "-c", STEP, name, optimizer, other, str(tmp_path / "weights.npz")],
            cwd=TOP,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr[-2000:]
        losses[other] = json.loads(finished.stdout.splitlines()[-1])
    assert losses["jax"] == pytest.approx(losses["tensorflow"], abs=1e-4)
    assert losses["jax"][1] != losses["jax"][0]
