"""`python -m benchmarks.scale`: what many trials cost on many machines; reports/scale.json and
reports/scale.md.

Measured on this machine (five minutes; needs FER2013, requirements-dev.txt and PostgreSQL): trials
on one and on two Ray workers, the engine's own time, MLflow's writes, Optuna's answers. Calculated
from these, and marked so: 1,000 trials on 1, 10 and 100 machines.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import FACES, read_faces, run, say, scale_report, training_images
from benchmarks.scale_report import CLIENTS, EPOCHS, MAX_WRITE_MS, TRIALS, WHOLE
from ferlab import files, params
from ferlab.data.dataset import Dataset
from ferlab.scaling.cluster import Cluster
from ferlab.tracking import provenance, search, store, writing
from ferlab.training import loop

NOTES, PAGE = Path("reports/scale.json"), Path("reports/scale.md")
IMAGES = 3_000  # training images of a measured trial's epoch
WRITING = 8.0  # seconds that clients write
# Run in a process of its own, as a worker does: one training to start up, then those that count.
PLAIN = """
import time
from benchmarks import scale
from ferlab.training import backend, loop
dataset, settings = scale.part(), scale.train_settings()
for number in range(1 + scale.TRIALS):
    if number == 1: began = time.perf_counter()
    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    loop.fit(dataset, settings)
print(time.perf_counter() - began)
"""


def part():
    """The first images of the training and the selection split."""
    dataset = Dataset.load(FACES)
    rows = [
        np.flatnonzero(dataset.table["split"] == split)[:count]
        for split, count in (("train", IMAGES), ("public", 512))
    ]
    return dataset.where(np.concatenate(rows))


def train_settings():
    """The train section of a measured trial."""
    changes = {"epochs": EPOCHS, "low_resolution": 0.0, "precision": "float32"}
    return params.load().train.model_copy(update=changes)


def trials(threads):
    """What a training costs with so many threads each, side by side, by Ray Tune."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster("local", threads, folder=folder)
        try:
            workers = cluster.capacity()
            first = _wave(cluster, "first", workers)
            # as many again after those that start the workers up
            wave = _wave(cluster, "second", workers + TRIALS)
            seconds = wave["seconds"] - first["seconds"]
            return {
                "workers": workers,
                "threads": threads,
                "start_seconds": round(first["seconds"] - wave["training"], 2),
                "seconds_a_trial": round(seconds / TRIALS, 2),
                "training_seconds": round(wave["training"], 2),
                "images_per_second": round(TRIALS * EPOCHS * IMAGES / seconds),
                "checkpoint_mb": round(wave["checkpoint"] / 2**20, 1),
            }
        finally:
            cluster.close()


def _wave(cluster, name, count):
    """Seconds until all have ended, mean seconds of training, bytes of a checkpoint."""
    began, training = time.perf_counter(), []
    results = cluster.run(name, part(), train_settings(), num_samples=count)
    seconds = time.perf_counter() - began
    for result in results:
        if result.error or "finished" not in result.metrics:
            raise files.UserError(f"scale: {result.error or result.metrics.get('failed')}")
        training.append(sum(result.metrics["finished"]["seconds"]))
    with result.checkpoint.as_directory() as there:
        size = sum(path.stat().st_size for path in Path(there).iterdir())
    cluster.forget(name)
    return {"seconds": seconds, "training": float(np.mean(training)), "checkpoint": size}


def plain():
    """Seconds a trial without Ray: the same trainings in a process of their own, on all cores."""
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]) / TRIALS, 2)


def optuna_ms():
    """Milliseconds of Optuna's answers after WHOLE trials: another trial, an epoch reported."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        study = _filled_study(optuna, folder)
        began, asks, epochs, reports = time.perf_counter(), 5, 20, 0.0
        for _ in range(asks):
            trial = study.ask()
            for name in "abcde":
                trial.suggest_float(name, 0, 1)
            before = time.perf_counter()
            for epoch in range(epochs):
                trial.report(0.5, epoch)
                trial.should_prune()
            reports += time.perf_counter() - before
            study.tell(trial, 0.5)
        return {
            "ask": round(1000 * (time.perf_counter() - began - reports) / asks, 1),
            "report": round(1000 * reports / (asks * epochs), 2),
        }


def _filled_study(optuna, folder):
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True),
    )
    distributions = dict.fromkeys("abcde", optuna.distributions.FloatDistribution(0.0, 1.0))
    study.add_trials(
        [
            optuna.trial.create_trial(
                value=float(values.sum()),
                distributions=distributions,
                params=dict(zip("abcde", map(float, values), strict=True)),
            )
            for values in np.random.default_rng(0).random((WHOLE, 5))
        ]
    )
    return study


def writes():
    """For ever more writes at a time, a dict: in_flight, and as of scale_report.summary."""
    from tests.servers import Server, postgresql

    with tempfile.TemporaryDirectory() as folder, postgresql() as database:
        server = Server(database, Path(folder))
        try:
            context = multiprocessing.get_context("spawn")
            started = (server.address, context.Barrier(CLIENTS))
            measured = []
            with context.Pool(CLIENTS, initializer=_start_client, initargs=started) as pool:
                for threads in (1, 2, 3, 4):
                    results = pool.map(_client, [threads] * CLIENTS, chunksize=1)
                    measured.append(
                        {"in_flight": CLIENTS * threads, **scale_report.summary(results)}
                    )
                    say(f"  {measured[-1]}")
                    if measured[-1]["p99_ms"] > MAX_WRITE_MS or measured[-1]["refused"]:
                        break
            return measured
        finally:
            server.kill()


def _start_client(address, barrier):
    global all_ready
    os.environ |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}
    all_ready = barrier


def _client(thread_count):
    """(seconds of each write, of all, how many were refused), from some threads."""
    row = dict.fromkeys((name for name in loop.HISTORY if name != "chosen"), 1.0)
    latencies, refused = [], []
    with store.store() as client:
        run_id = client.create_run(search.experiment_of(client, "scale")).info.run_id
        writing.log_epoch(client, run_id, row | {"epoch": 1})
        all_ready.wait(60)  # one that failed must not hold up the others for ever
        deadline = time.perf_counter() + WRITING

        def write(first):
            epoch = first
            while time.perf_counter() < deadline:
                epoch += thread_count
                began = time.perf_counter()
                try:
                    writing.log_epoch(client, run_id, row | {"epoch": epoch})
                except Exception as error:
                    refused.append(error)
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        with ThreadPoolExecutor(thread_count) as pool:
            list(pool.map(write, range(thread_count)))
        return latencies, time.perf_counter() - began, len(refused)


def main():
    try:
        from tests import servers
    except ImportError:
        raise files.UserError(
            "scale: needs the tests' packages; pip install --require-hashes -r requirements-dev.txt"
        ) from None
    if not servers.programs():
        raise files.UserError(
            "scale: PostgreSQL is not installed; on Debian: apt-get install postgresql"
        )
    read_faces()
    results = {"machine": provenance.machine(), "images": IMAGES}
    results |= {"training_images": training_images(), "trials": []}
    say("trials on one worker, on two, and without Ray")
    for threads in (os.cpu_count(), max(os.cpu_count() // 2, 1)):
        results["trials"].append(trials(threads))
        say(f"  {results['trials'][-1]}")
    results["plain_seconds"] = plain()
    say("Optuna's answers")
    results["optuna_ms"] = optuna_ms()
    say("MLflow's writes")
    results["writes"] = writes()
    files.write_json(NOTES, results)
    files.write_text(PAGE, scale_report.text(results))
    say(f"wrote {PAGE}")


if __name__ == "__main__":
    run(main)
