"""The ways of training that `make bench` compares: each a process of its own, which trains for some
seconds when asked.

`python -m benchmarks.ways <way>` prints a line of JSON when it is ready, and another after each
turn.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import FACES, run, say
from ferlab import files, models, params, recipes
from ferlab.data.dataset import SIZE, Dataset

TEXTS = "texts"  # as the usual notebook trains
ANY_ORDER = "default, float32, sums in any order"
# name: (recipe or None for params.yaml, what differs in its train section); all on 48x48
WAYS = {
    TEXTS: ("silva_2025", {"precision": "float32"}),
    "silva_2025, float32": ("silva_2025", {"precision": "float32"}),
    "silva_2025, bfloat16": ("silva_2025", {"precision": "bfloat16"}),
    "default, float32": (None, {"precision": "float32"}),
    ANY_ORDER: (None, {"precision": "float32"}),
    "default, bfloat16": (None, {"precision": "bfloat16"}),
    "speedrun": ("speedrun", {}),
}
BATCHES_A_CALL = 16  # of Keras' own fit
FEED_BATCHES = 20  # over which the feed is timed


def train_settings(recipe, changes):
    """The train section of a recipe (None: of params.yaml), with changes."""
    from ferlab.training import backend

    section = (recipes.load_recipe(recipe) if recipe else params.load()).train
    section = section.model_copy(update=changes)
    precision = backend.precision_of(section.precision, section.backend)  # where that is `auto`
    return section.model_copy(update={"precision": precision})


class Way:
    """A process that trains in one of WAYS, and what its turns gave."""

    def __init__(self, name, times=1):
        """times: how often the training data are repeated. UserError where the process ends."""
        self.name, self.turns = name, []
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ways", name, "--times", str(times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.about = self._read()

    def turn(self, seconds):
        """Let it train for some seconds."""
        with contextlib.suppress(BrokenPipeError):  # _read then reports why
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        self.turns.append(self._read())

    def close(self):
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.errors.close()

    def result(self):
        """Images a second (the median turn, the slowest and the fastest), memory in MiB, the
        network.
        """
        speeds = sorted(turn["images"] / turn["seconds"] for turn in self.turns)
        anonymous = self.turns[-1]["anonymous_mb"]
        return {
            **self.about,
            "images_per_second": round(speeds[len(speeds) // 2], 1),
            "slowest": round(speeds[0], 1),
            "fastest": round(speeds[-1], 1),
            "peak_mb": round(self.turns[-1]["peak_mb"]),
            "anonymous_mb": anonymous and round(anonymous),
        }

    def _read(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        reason = (self.errors.read().strip().splitlines() or ["it printed nothing"])[-1]
        raise files.UserError(f"bench, {self.name}: the process ended with {code}: {reason}")


def multiply_adds(network):
    """Of one face forward through convolutions and dense layers; all else costs no time worth
    counting.
    """
    total = 0
    for layer in network.layers:
        if hasattr(layer, "kernel"):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    return total


def _serve(name, times=1):
    """Print a line when ready; for each line on stdin, train for that many seconds and print what
    it took.
    """
    recipe, changes = WAYS[name]
    settings = train_settings(recipe, changes)
    dataset = Dataset.load(FACES).split("train")
    if times > 1:
        dataset = _repeated(dataset, times)
    if name == TEXTS:
        step, about = _texts(dataset, settings)
    else:
        step, about = _ours(dataset, settings, in_any_order=name == ANY_ORDER)
    for _ in range(1 if name == TEXTS else 4):  # the first steps build graphs and buffers
        step()
    shown = {key: getattr(settings, key) for key in ("model", "batch_size", "precision")}
    say(json.dumps({**about, **shown}))
    for line in sys.stdin:
        say(json.dumps(_turn(step, float(line))))


def _turn(step, seconds):
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images += step()
    return {
        "images": images,
        "seconds": time.perf_counter() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "anonymous_mb": _anonymous(),
    }


def _texts(dataset, settings):
    """(a step, about the network) of the usual notebook: faces as float32, Keras' legacy generator,
    `model.fit`.

    A step is a call of it, BATCHES_A_CALL batches; it returns how many images it took.
    """
    from ferlab.training import backend

    keras = backend.start("tensorflow", "float32")
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    network = models.build(settings.model, 7, settings.dropout)
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    network.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    generator = ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=10,
        width_shift_range=0.1,
        height_shift_range=0.1,
        zoom_range=0.1,
        horizontal_flip=True,
    )
    faces = dataset.faces[..., None].astype(np.float32)
    targets = keras.utils.to_categorical(dataset.labels, 7)
    flow = generator.flow(faces, targets, batch_size=settings.batch_size)

    def step():
        network.fit(flow, steps_per_epoch=BATCHES_A_CALL, epochs=1, verbose=0)
        return BATCHES_A_CALL * settings.batch_size

    return step, _size(network)


def _ours(dataset, settings, in_any_order):
    """(a step, about the network and the feed) of ferlab's loop; a step is a batch."""
    from ferlab.training import backend, batches, network

    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    if in_any_order:  # what bit-for-bit repetition costs is the difference
        from tensorflow.python.framework import config

        config.disable_op_determinism()
    result = models.build(settings.model, 7, settings.dropout)
    model = network.compiled(network.fused(network.to_logits(result)), settings, SIZE)
    full_size = settings.model_copy(update={"low_resolution": 0.0})

    def endless():
        epoch = 0
        while True:
            yield from batches.batches(dataset, full_size, epoch)
            epoch += 1

    feed = endless()

    def step():
        faces, targets, weights = next(feed)
        backend.step(model, faces, targets, weights)
        return len(faces)

    began = time.perf_counter()
    for _ in range(FEED_BATCHES):
        next(feed)
    feed_ms = 1000 * (time.perf_counter() - began) / FEED_BATCHES
    return step, {**_size(result), "feed_ms": feed_ms}


def _size(network):
    return {"parameters": network.count_params(), "multiply_adds": multiply_adds(network)}


def _repeated(dataset, times):
    """The same faces repeated in a memory-mapped file: what counts is how many there are."""
    import pandas as pd

    path, count = FACES.parent / f"{times}.npy", len(dataset.faces)
    if not path.exists():
        with files.replacing(path) as part:
            out = np.lib.format.open_memmap(part, "w+", np.uint8, (times * count, SIZE, SIZE))
            for start in range(0, len(out), count):
                out[start : start + count] = dataset.faces
            out.flush()
    table = pd.concat([dataset.table] * times, ignore_index=True)
    return Dataset(dataset.name, dataset.classes, np.load(path, mmap_mode="r"), table)


def _anonymous():
    """MiB that are the process's own and no file's (Linux), or None."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), None)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ways")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--times", type=int, default=1)
    arguments = parser.parse_args()
    _serve(arguments.way, arguments.times)


if __name__ == "__main__":
    run(main)
