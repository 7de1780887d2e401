"""`make bench`: what training costs on this machine, the texts' way and ours, in one run; reports/bench.json and bench.png,
with LONG=1 bench_scale.png too.

Every way of training is a process of its own; they take turns, a few seconds each, so that a machine whose speed drifts
treats them alike. `make bench LONG=1` also trains until 59.53, 62.08 and 65 % of public are reached, and measures the
data at 1, 4 and 16 times their size. Needs FER2013; takes less than four minutes, the long form an hour.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ferlab import files, params, recipes, verify
from ferlab.data import augment
from ferlab.data.dataset import SIZE, Dataset
from ferlab.data.readers import sources
from ferlab.progress import Progress, duration
from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure
from ferlab.tracking import provenance

TEXTS, FREE, ROUNDS, SECONDS = "texts", "default, float32, sums in any order", 3, 2.0
SILVA = 35 * 22_968  # training images that silva_2025 goes through
LEVELS = (
    0.5953,
    0.6208,
    0.65,
)  # silva_2025's and fourlayer_2025's published accuracies, and people's
WAYS = {  # name: (recipe or None for the bench's own params, what differs in its train section, side of the faces)
    TEXTS: ("silva_2025", {}, SIZE),
    "silva_2025, float32": ("silva_2025", {}, SIZE),
    "silva_2025, bfloat16": ("silva_2025", {"precision": "bfloat16"}, SIZE),
    "default, float32": (None, {"precision": "float32"}, SIZE),
    FREE: (None, {"precision": "float32"}, SIZE),
    "default, bfloat16": (None, {"precision": "bfloat16"}, SIZE),
    "speedrun, 32x32": ("speedrun", {}, 32),
    "speedrun, 48x48": ("speedrun", {}, SIZE),
}
FACES = Path(".ferlab/bench/faces")  # FER2013, read once


def settings(recipe, changes):
    section = (recipes.load_recipe(recipe) if recipe else params.load()).train
    return section.model_copy(update=changes)


def worker(way, times=1):
    """Print a line of JSON when ready; for each line on stdin, train for that many seconds and print what it took."""
    recipe, changes, side = WAYS[way]
    chosen = settings(recipe, changes)
    dataset = Dataset.load(FACES).split("train")
    if times > 1:
        dataset = _grown(dataset, times)
    step, about = (
        _texts(dataset, chosen) if way == TEXTS else _ours(dataset, chosen, side, way == FREE)
    )
    for _ in range(1 if way == TEXTS else 4):  # the first steps build graphs and buffers
        step()
    say(
        json.dumps(
            {
                **about,
                "model": chosen.model,
                "batch_size": chosen.batch_size,
                "precision": chosen.precision,
            }
        )
    )
    for line in sys.stdin:
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < float(line):
            images += step()
        say(
            json.dumps(
                {
                    "images": images,
                    "seconds": time.perf_counter() - began,
                    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                    "anonymous_mb": _anonymous(),
                }
            )
        )


def _texts(dataset, chosen):
    """The usual notebook: faces as float32, Keras' legacy generator, `model.fit`; a step is a call of it, 16 batches."""
    from ferlab import models
    from ferlab.training import backend

    keras = backend.start("tensorflow", "float32")
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    network = models.build(chosen.model, 7, chosen.dropout)
    network.compile(
        keras.optimizers.Adam(chosen.learning_rate),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    generator = ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=10,
        width_shift_range=0.1,
        height_shift_range=0.1,
        zoom_range=0.1,
        horizontal_flip=True,
    )
    targets = keras.utils.to_categorical(dataset.labels, 7)
    flow = generator.flow(
        dataset.faces[..., None].astype(np.float32), targets, batch_size=chosen.batch_size
    )

    def step():
        network.fit(flow, steps_per_epoch=16, epochs=1, verbose=0)
        return 16 * chosen.batch_size

    return step, _size(network, SIZE)


def _ours(dataset, chosen, side, free):
    from ferlab import models
    from ferlab.training import backend, batches, network

    backend.start(chosen.backend, chosen.precision, chosen.seed)
    if free:  # what bit-for-bit repetition costs is the difference
        from tensorflow.python.framework import config

        config.disable_op_determinism()

    result = models.build(chosen.model, 7, chosen.dropout)
    model = network.compiled(network.to_logits(result), chosen, side)
    at_this_side = chosen.model_copy(update={"low_resolution": 1.0 if side != SIZE else 0.0})

    def endless():
        epoch = 0
        while True:
            yield from batches.batches(dataset, at_this_side, epoch)
            epoch += 1

    feed = endless()

    def step():
        faces, targets, weights = next(feed)
        model.train_on_batch(faces, targets, sample_weight=weights)
        return len(faces)

    began, count = time.perf_counter(), 20
    for _ in range(count):
        next(feed)
    return step, {**_size(result, side), "feed_ms": 1000 * (time.perf_counter() - began) / count}


def _size(network, side):
    return {"parameters": network.count_params(), "multiply_adds": multiply_adds(network, side)}


def multiply_adds(network, side=SIZE):
    """Of one face forward through convolutions and dense layers; those that cost no time worth naming are not counted."""
    total = 0
    for layer in network.layers:
        if hasattr(layer, "kernel"):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    return round(total * (side / SIZE) ** 2)


def _grown(dataset, times):
    """The same faces again and again, as a memory-mapped file: what counts is how many there are."""
    import pandas as pd

    path = FACES.parent / f"{times}.npy"
    if not path.exists():
        with files.replacing(path) as part:
            out = np.lib.format.open_memmap(
                part, "w+", np.uint8, (times * len(dataset.faces), SIZE, SIZE)
            )
            for start in range(0, len(out), len(dataset.faces)):
                out[start : start + len(dataset.faces)] = dataset.faces
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


class Worker:
    """A process of `worker`, and what its turns gave."""

    def __init__(self, way, times=1):
        self.way, self.turns = way, []
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bench", "--worker", way, "--times", str(times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )
        self.about = self._read()

    def turn(self, seconds):
        with contextlib.suppress(BrokenPipeError):  # _read then says why
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        self.turns.append(self._read())

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.said.seek(0)
            reason = (self.said.read().strip().splitlines() or ["it said nothing"])[-1]
            raise files.UserError(f"bench, {self.way}: the process ended with {code}: {reason}")
        return json.loads(line)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.said.close()

    def result(self):
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


def alone(call, *arguments):
    """What `call` returns in a process of its own: Keras keeps its backend in a process, TensorFlow its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def peak():
    """{precision: GFLOP/s} of the best of three square matrix products."""
    from ferlab.training import backend

    backend.start("tensorflow")
    import tensorflow as tf

    found = {}
    for name in ("float32", "bfloat16"):
        a = tf.cast(tf.random.normal((4096, 4096)), name)
        tf.matmul(a, a)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            tf.matmul(a, a).numpy()
            seconds.append(time.perf_counter() - began)
        found[name] = round(2 * 4096**3 / min(seconds) / 1e9)
    return found


def feeds():
    """Milliseconds to move 128 faces at random: OpenCV (what ferlab uses), the same in numpy, and in TensorFlow's graph."""
    from ferlab.training import backend

    keras = backend.start("tensorflow")
    faces = np.array(Dataset.load(FACES).split("train").faces[:128])
    uniforms = augment.parameters((0,), 128)
    motion = {"flip": True, "rotation": 10, "shift": 0.08, "zoom": 0.1}
    matrices = augment._matrices(uniforms, True, 10, 0.08, 0.1)
    batch = keras.ops.convert_to_tensor(faces[..., None], "float32")
    transforms = keras.ops.convert_to_tensor(
        np.concatenate([matrices.reshape(-1, 6), np.zeros((128, 2))], 1), "float32"
    )
    import tensorflow as tf

    in_graph = tf.function(
        lambda a, b: keras.ops.image.affine_transform(a, b, "bilinear", "nearest")
    )
    return {
        "OpenCV": _milliseconds(lambda: augment.apply(faces, uniforms, **motion)),
        "numpy": _milliseconds(lambda: _numpy_warp(faces, matrices)),
        "in the graph": _milliseconds(lambda: in_graph(batch, transforms).numpy()),
    }


def _numpy_warp(faces, matrices):
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
    """Seconds of every stage but train on the real FER2013, each a process, in a copy of this tree; `evaluate` judges the
    default network untrained, which costs the same.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix="ferlab-bench-") as folder:
        verify.clone(Path(folder))
        text = Path(folder, "params.yaml").read_text(encoding="utf-8")
        Path(folder, "params.yaml").write_text(
            re.sub(r"(?m)^  dataset: .*", "  dataset: fer2013", text), encoding="utf-8"
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLFLOW_TRACKING", "DVC_"))
        }
        environment |= {"DVC_ROOT": folder, "FER2013": str(Path(os.environ["FER2013"]).resolve())}

        def timed(name, *command):
            began = time.perf_counter()
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise files.UserError(
                    f"bench, {name}: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
                )
            found[name] = round(time.perf_counter() - began, 1)

        for stage in ("download", "eda", "balance"):
            timed(stage, sys.executable, "-m", f"stages.{stage}")
        subprocess.run([sys.executable, "-c", UNTRAINED], cwd=folder, env=environment, check=True)
        timed("evaluate", sys.executable, "-m", "stages.evaluate")
    found["all but train"] = round(sum(found.values()), 1)
    return found


UNTRAINED = """
from pathlib import Path
from ferlab import models, params
from ferlab.training import backend, loop, model_file
chosen = params.load().train
backend.start(chosen.backend, chosen.precision, chosen.seed)
Path("models").mkdir(exist_ok=True)
model_file.save(models.build(chosen.model, 7, chosen.dropout), Path("models/model.keras"))
Path("models/history.csv").write_text(",".join(loop.HISTORY) + "\\n1,0.1,1,0.5,1,0.5,1\\n")
"""


def no_op():
    """{"here", "empty pipeline"}: seconds of `dvc repro` with nothing to do, the best of three in turn; None where the
    bench is not up to date."""
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
            for name, place in (("here", "."), ("empty pipeline", folder)):
                began = time.perf_counter()
                subprocess.run([dvc, "repro", "-q"], cwd=place, check=True)
                best[name] = min(best[name], time.perf_counter() - began)
    return {name: round(seconds, 2) for name, seconds in best.items()}


def bench(long):
    """Measure everything; what is there is written after each part, as the later ones take long. Returns it."""
    began = time.perf_counter()
    if not os.environ.get("FER2013"):
        raise files.UserError(
            "bench: FER2013 names no copy of the real dataset; export FER2013=~/fer2013.zip"
        )
    say("FER2013 and the machine's matrix products")
    read_faces()
    found = {
        "machine": provenance.machine(),
        "dataset": Dataset.load(FACES).name,
        "peak_gflops": alone(peak),
    }
    say(f"{len(WAYS)} ways of training, {ROUNDS} turns each")
    found["ways"] = race({way: (way, 1) for way in WAYS})
    faces = len(Dataset.load(FACES).split("train").faces)
    for result in found["ways"].values():
        work = (
            6 * result["multiply_adds"] * result["images_per_second"] / 1e9
        )  # forward once, backward twice, two operations
        result["epoch_seconds"] = round(faces / result["images_per_second"], 1)
        result["share_of_peak"] = round(work / found["peak_gflops"][result["precision"]], 3)
        if "feed_ms" in result:
            result["feed_share"] = round(
                result["feed_ms"] * result["images_per_second"] / 1000 / result["batch_size"], 4
            )
    found["seconds"] = totals(found["ways"])
    say("the feed, and the stages that do not train")
    found["feed_ms"] = alone(feeds)
    found["pipeline_seconds"] = pipeline()
    found["no_op_seconds"] = no_op()
    keep(found, began)
    if long:
        say("1, 4 and 16 times the data")
        found["scale"] = race({str(times): ("speedrun, 48x48", times) for times in (1, 4, 16)})
        found["until"] = {}
        for recipe in (None, "speedrun", "silva_2025"):
            keep(found, began)
            say(
                f"training {recipe or 'the default'} until {', '.join(f'{100 * level:.2f}' for level in LEVELS)} % of public"
            )
            found["until"][recipe or "default"] = alone(until, recipe)
        keep(found, began)
    return found


def keep(found, began):
    """Write the page's numbers and figures as far as they are known."""
    found["took_seconds"] = round(time.perf_counter() - began)
    files.write_json(Path("reports/bench.json"), found)
    draw(Path("reports/bench.png"), found)
    if "scale" in found:
        draw_scale(Path("reports/bench_scale.png"), found["scale"])


def race(entries):
    """{name: result} of workers that take turns; entries: {name: (way, times)}."""
    workers = {name: Worker(*entry) for name, entry in entries.items()}
    try:
        for _ in range(ROUNDS):
            for one in workers.values():
                one.turn(SECONDS)
        return {name: one.result() for name, one in workers.items()}
    finally:
        for one in workers.values():
            one.close()


def totals(ways):
    """Seconds of training steps, from the speeds of this run: silva_2025's 35 epochs in three ways, and the speedrun's epochs."""
    from ferlab.training import schedule

    chosen = settings("speedrun", {})
    small = sum(schedule.side_of(chosen, epoch) != SIZE for epoch in range(chosen.epochs))
    faces = len(Dataset.load(FACES).split("train").faces)
    found = {
        way: round(SILVA / ways[way]["images_per_second"])
        for way in WAYS
        if ways[way]["model"] == "silva_2025"
    }
    found["speedrun"] = round(
        faces
        * (
            small / ways["speedrun, 32x32"]["images_per_second"]
            + (chosen.epochs - small) / ways["speedrun, 48x48"]["images_per_second"]
        )
    )
    return found


def until(recipe):
    """{level: seconds or None} until the selection split first reaches each level, whole epochs, in this process."""
    chosen, passed, reached = settings(recipe, {"select_on": "public"}), 0.0, dict.fromkeys(LEVELS)

    class Enough(Exception):
        pass

    def epoch(row, seconds):
        nonlocal passed
        passed += seconds
        for level in LEVELS:
            if reached[level] is None and row["selection_accuracy"] >= level:
                reached[level] = round(passed)
        if reached[LEVELS[-1]] is not None:
            raise Enough

    with contextlib.suppress(Enough):
        fit(Dataset.load(FACES), chosen, epoch)
    return {f"{100 * level:.2f} %": seconds for level, seconds in reached.items()}


def fit(dataset, chosen, on_epoch=None):
    """A whole training in this process, shown as the train stage shows it; what ferlab.training.fit returns."""
    from ferlab.training import backend, loop, schedule
    from ferlab.training.callbacks import Callbacks

    backend.start(chosen.backend, chosen.precision, chosen.seed)
    shown = Progress(
        chosen.epochs,
        chosen.select_on,
        schedule.step_costs(chosen),
    )

    def epoch(row, seconds):
        shown.epoch(row, seconds)
        if on_epoch:
            on_epoch(row, seconds)

    try:
        return loop.fit(dataset, chosen, callbacks=Callbacks(shown.step, epoch))
    finally:
        shown.close()


def read_faces():
    if not (FACES / "dataset.json").exists():
        FACES.parent.mkdir(parents=True, exist_ok=True)
        sources.read("fer2013")[0].save(FACES)


def draw(path, found):
    """Images per second of each way, and where a second of the machine went."""
    names = list(found["ways"])
    speeds = [found["ways"][name]["images_per_second"] for name in names]
    spread = [
        [speed - found["ways"][name]["slowest"] for name, speed in zip(names, speeds, strict=True)],
        [found["ways"][name]["fastest"] - speed for name, speed in zip(names, speeds, strict=True)],
    ]
    with figure(path, 8, 3.8) as (_, axes):
        bars = axes.barh(
            range(len(names)),
            speeds,
            xerr=spread,
            color=[MUTED] + [INK] * (len(names) - 1),
            ecolor=ACCENT,
        )
        axes.bar_label(
            bars,
            [
                f"{speed:,.0f}   {100 * found['ways'][name]['share_of_peak']:.0f} % of peak"
                for name, speed in zip(names, speeds, strict=True)
            ],
            padding=8,
            fontsize=8.5,
        )
        axes.set_yticks(
            range(len(names)),
            ["silva_2025, as the texts train" if name == TEXTS else name for name in names],
        )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(
            title="Training: images per second",
            xlim=(0, 1.35 * max(speeds)),
            xlabel=f"{found['machine']['cores']} cores, {found['machine']['cpu']}; whiskers: slowest and fastest turn",
        )


def draw_scale(path, scale):
    """Images per second and the process's own memory against the size of the training set."""
    times = [int(name) for name in scale]
    with figure(path, 8, 2.8, columns=2) as (_, panels):
        for axes, key, title, colour in (
            (panels[0], "images_per_second", "Images per second", ACCENT),
            (panels[1], "anonymous_mb", "Memory of the process's own, MB", INK),
        ):
            values = [scale[str(one)][key] or 0 for one in times]
            axes.plot(times, values, color=colour, marker="o")
            for one, value in zip(times, values, strict=True):
                axes.annotate(
                    f"{value:,.0f}",
                    (one, value),
                    (0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8.5,
                )
            axes.set_xscale("log", base=4)
            axes.set_xticks(times, [f"{one}x" for one in times])
            axes.set(
                title=title,
                xlabel="size of the training set, FER2013 = 1",
                ylim=(0, 1.25 * max(*values, 1)),
                xlim=(min(times) / 1.6, max(times) * 1.6),
            )


def table(found):
    """What the terminal shows."""

    def listed(name):
        return (
            ", ".join(f"{what} {value:,}" for what, value in found[name].items())
            if found[name]
            else "not measured, as the bench is not up to date (make repro)"
        )

    lines = [f"{'way':<36}{'images/s':>9}{'s/epoch':>9}{'of peak':>9}{'feed':>8}{'memory':>11}"]
    for name, one in found["ways"].items():
        feed = f"{100 * one['feed_share']:.1f} %" if "feed_share" in one else ""
        lines.append(
            f"{name:<36}{one['images_per_second']:>9,.0f}{one['epoch_seconds']:>9.1f}"
            f"{100 * one['share_of_peak']:>7.0f} %{feed:>8}{one['peak_mb']:>8,} MB"
        )
    lines += [
        "",
        f"seconds of training: {listed('seconds')}",
        f"milliseconds to move 128 faces: {listed('feed_ms')}",
        f"seconds of the stages on FER2013: {listed('pipeline_seconds')}",
        f"seconds of `dvc repro` with nothing to do: {listed('no_op_seconds')}",
    ]
    for times, one in found.get("scale", {}).items():
        own = one["anonymous_mb"] or 0  # no memory is told outside Linux
        lines.append(
            f"{times:>2} x the data: {one['images_per_second']:,.0f} images/s, {own:,} MB of its own"
        )
    for name, levels in found.get("until", {}).items():
        lines.append(
            f"{name}: "
            + ", ".join(
                f"{level} of public after {s} s" if s else f"{level} not reached"
                for level, s in levels.items()
            )
        )
    return "\n".join([*lines, "", f"took {duration(found['took_seconds'])}"])


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help="also 4 and 16 times the data, and seconds to published accuracies",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.times)
        return
    say(table(bench(arguments.long)))
    say("wrote reports/bench.json and its figures")


def say(line):
    print(line, flush=True)


def run(main):
    """Call a benchmark; what the user can mend becomes one line and exit code 1."""
    try:
        main()
    except files.UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; what was finished and written is kept")


if __name__ == "__main__":
    run(main)
