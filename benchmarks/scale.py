"""`python -m benchmarks.scale`: what many trials cost on many machines; reports/scale.json and reports/scale.md.

Measured on this machine (five minutes; needs FER2013, requirements-dev.txt and PostgreSQL): trials on one and on two Ray workers,
the engine's own time, MLflow's writes, Optuna's answers. Worked out from these, and marked so: 1,000 trials on 1, 10 and 100
machines.
"""

import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.bench import FACES, read_faces, run, say
from ferlab import files, params
from ferlab.data.dataset import Dataset
from ferlab.progress import duration
from ferlab.scaling import cluster as clusters
from ferlab.tracking import provenance, search, store, writing

NOTES, PAGE = Path("reports/scale.json"), Path("reports/scale.md")
TRIALS, EPOCHS, IMAGES = 4, 2, 3_000  # of each measured turn; training images of a trial's epoch
CLIENTS, WRITING = 8, 8.0  # seconds
WHOLE, MACHINES = 1_000, (1, 10, 100)
# Run in a process of its own, as a worker does: one training to start up, then those that count.
PLAIN = """
import sys, time
from benchmarks import scale
from ferlab.training import backend, loop
dataset, chosen = scale.part(), scale.chosen()
for number in range(1 + scale.TRIALS):
    if number == 1: began = time.perf_counter()
    backend.start(chosen.backend, chosen.precision, chosen.seed)
    loop.fit(dataset, chosen)
print(time.perf_counter() - began)
"""


def part():
    """The first images of the training and the selection split."""
    dataset = Dataset.load(FACES)
    rows = [
        np.flatnonzero(dataset.table["split"] == split)[:n]
        for split, n in (("train", IMAGES), ("public", 512))
    ]
    return dataset.where(np.concatenate(rows))


def chosen():
    return params.load().train.model_copy(
        update={"epochs": EPOCHS, "low_resolution": 0.0, "precision": "float32"}
    )


def trials(threads):
    """Seconds of TRIALS trainings with so many threads each, as many side by side as there is room; and of an empty task."""
    with tempfile.TemporaryDirectory() as folder:
        connection = clusters.Cluster("local", threads, folder=folder)
        try:
            shared, slots = connection.share(part()), connection.slots()
            first = _wave(connection, shared, [f"first-{number}" for number in range(slots)])
            wave = _wave(connection, shared, [f"trial-{number}" for number in range(TRIALS)])
            empty = connection.ray.remote(num_cpus=threads)(lambda faces: len(faces.faces))
            connection.ray.get([empty.remote(shared) for _ in range(slots)])
            began = time.perf_counter()
            for _ in range(50):
                connection.ray.get(empty.remote(shared))
            return {
                "workers": slots,
                "threads": threads,
                "start_seconds": round(first["seconds"] - wave["training"], 2),
                "seconds_a_trial": round(wave["seconds"] / TRIALS, 2),
                "training_seconds": round(wave["training"], 2),
                "images_per_second": round(TRIALS * EPOCHS * IMAGES / wave["seconds"]),
                "empty_task_ms": round(1000 * (time.perf_counter() - began) / 50, 2),
                "checkpoint_mb": round(wave["checkpoint"] / 2**20, 1),
            }
        finally:
            connection.close()


def _wave(connection, shared, names):
    """Train under all these names; seconds until all have ended, and the mean of their epochs' seconds."""
    began, training, size = time.perf_counter(), [], 0
    for name in names:
        connection.start(name, shared, chosen())
    while connection.running:
        for name, kind, what in connection.news(0.05):
            if kind == "failed":
                raise what
            if kind == "done":
                training.append(sum(what["seconds"]))
                kept = connection.checkpoint(name)
                size = kept.files.size(kept.path)
                connection.forget(name)
    return {
        "seconds": time.perf_counter() - began,
        "training": float(np.mean(training)),
        "checkpoint": size,
    }


def plain():
    """Seconds a trial without Ray: the same trainings in a process of their own, two threads."""
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]) / TRIALS, 2)


def optuna_ms():
    """Milliseconds of Optuna's answers in SQLite after WHOLE trials: another trial, and an epoch reported."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/study.db",
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True),
        )
        span = optuna.distributions.FloatDistribution(0.0, 1.0)
        random = np.random.default_rng(0)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    value=float(values.sum()),
                    distributions=dict.fromkeys("abcde", span),
                    params=dict(zip("abcde", map(float, values), strict=True)),
                )
                for values in random.random((WHOLE, 5))
            ]
        )
        began, asks, reports = time.perf_counter(), 5, 0.0
        for _ in range(asks):
            trial = study.ask()
            for name in "abcde":
                trial.suggest_float(name, 0, 1)
            before = time.perf_counter()
            for epoch in range(20):
                trial.report(0.5, epoch)
                trial.should_prune()
            reports += time.perf_counter() - before
            study.tell(trial, 0.5)
        return {
            "ask": round(1000 * (time.perf_counter() - began - reports) / asks, 1),
            "report": round(50 * reports / asks, 2),
        }


def writes():
    """[{"in_flight", "per_second", "p50_ms", "p99_ms"}]: epochs written by CLIENTS processes, ever more at a time."""
    from tests.servers import Server, postgresql

    with tempfile.TemporaryDirectory() as folder, postgresql() as database:
        server = Server(database, Path(folder))
        try:
            found, context = [], multiprocessing.get_context("spawn")
            barrier = context.Barrier(CLIENTS)
            pool = context.Pool(
                CLIENTS, initializer=_client_starts, initargs=(server.address, barrier)
            )
            for each in (1, 2, 3, 4):
                told = pool.map(_client, [each] * CLIENTS, chunksize=1)
                seconds = np.concatenate([latencies for latencies, _, _ in told])
                middle, late = (
                    round(1000 * float(np.percentile(seconds, share))) for share in (50, 99)
                )
                rate = sum(len(latencies) / spent for latencies, spent, _ in told)
                found.append(
                    {
                        "in_flight": CLIENTS * each,
                        "per_second": round(rate, 1),
                        "p50_ms": middle,
                        "p99_ms": late,
                        "refused": sum(refused for *_, refused in told),
                    }
                )
                say(f"  {found[-1]}")
                if found[-1]["p99_ms"] > 1000 or found[-1]["refused"]:
                    break
            pool.terminate()
            return found
        finally:
            server.kill()


def _client_starts(address, barrier):
    global ready
    os.environ |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}
    ready = barrier


def _client(each):
    """Write epochs for WRITING seconds from `each` threads; (seconds of each write, of all, how many were refused)."""
    row = {
        "epoch": 1,
        "learning_rate": 0.1,
        "running_loss": 1.0,
        "running_accuracy": 0.5,
        "selection_loss": 1.0,
        "selection_accuracy": 0.5,
    }
    with store.store() as client:
        run = client.create_run(search.experiment_of(client, "scale")).info.run_id
        writing.log_epoch(client, run, row)
        ready.wait(60)  # all clients together; one that failed must not hold up the others for ever
        until, found, refused = time.perf_counter() + WRITING, [], []

        def write(place):
            epoch = place
            while time.perf_counter() < until:
                epoch += each
                began = time.perf_counter()
                try:
                    writing.log_epoch(client, run, row | {"epoch": epoch})
                except Exception as error:
                    refused.append(error)
                found.append(time.perf_counter() - began)

        began = time.perf_counter()
        threads = [threading.Thread(target=write, args=(place,)) for place in range(each)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        return found, time.perf_counter() - began, len(refused)


def model(found, settings=None):
    """What WHOLE trainings with the defaults would take: (seconds of one, a dict for each number of machines).

    load: what each service would be asked for, as a share of what it was measured to give.
    """
    settings = settings or params.load().train
    best = max(found["trials"], key=lambda one: one["images_per_second"])
    images = (
        found["training_images"]
        * settings.epochs
        * (1 - settings.low_resolution * (1 - (32 / 48) ** 2))
    )
    trial = images / (best["images_per_second"] / best["workers"])
    fine = [
        one for one in found["writes"] if one["p99_ms"] <= 1000 and not one["refused"]
    ] or found["writes"][:1]
    taken = [one["per_second"] for one in fine]
    rows = []
    for machines in MACHINES:
        workers = machines * best["workers"]
        seconds = math.ceil(WHOLE / workers) * trial + best["start_seconds"]
        epochs, asked = (
            workers * settings.epochs / trial,
            workers / trial,
        )  # that end each second, somewhere
        rows.append(
            {
                "machines": machines,
                "workers": workers,
                "hours": round(seconds / 3600, 1),
                "core_hours": round(found["machine"]["cores"] * machines * seconds / 3600),
                "load": {
                    "MLflow's server": epochs / max(taken),
                    "Optuna": (
                        epochs * found["optuna_ms"]["report"] + asked * found["optuna_ms"]["ask"]
                    )
                    / 1000,
                    "checkpoints at 100 MB/s": epochs * best["checkpoint_mb"] / 100,
                },
            }
        )
    return trial, rows


def text(found):
    trial, rows = model(found)
    machine = found["machine"]
    lines = [
        "# What many trials cost on many machines",
        "",
        f"Generated by `python -m benchmarks.scale` on {machine['cores']} cores of {machine['cpu']}. A measured trial:",
        f"the default network in float32, {EPOCHS} epochs of {found['images']:,} faces; {TRIALS} trials a line.",
        "",
        "## Measured: one machine",
        "",
        "| Ray workers | threads each | images/s, all together, starts included | seconds a trial | of them training |"
        " a worker's start, s | an empty task, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['workers']} | {one['threads']} | {one['images_per_second']:,} | {one['seconds_a_trial']} | "
        f"{one['training_seconds'] / one['workers']:.2f} | {one['start_seconds']} | {one['empty_task_ms']} |"
        for one in found["trials"]
    ]
    alone = next(one for one in found["trials"] if one["workers"] == 1)
    lines += [
        "",
        f"The same trials in a process without Ray: {found['plain_seconds']} s each, so that Ray costs "
        f"{alone['seconds_a_trial'] - found['plain_seconds']:.2f} s a trial (checkpoints of {alone['checkpoint_mb']} MB "
        "included, which the plain process does not write).",
        "",
        f"## Measured: writes of {CLIENTS} clients to one MLflow server (PostgreSQL, one worker process)",
        "",
        "| at a time | epochs written a second | median, ms | 99 %, ms | refused |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['in_flight']} | {one['per_second']} | {one['p50_ms']} | {one['p99_ms']} | {one['refused']} |"
        for one in found["writes"]
    ]
    if found["writes"][-1]["refused"]:
        lines += [
            "",
            "Refused: MLflow lends 15 database connections to a worker process and waits 30 seconds for one",
            "(MLFLOW_SQLALCHEMYSTORE_POOL_SIZE raises that). No trial is lost by it: a sweep's truth is Optuna's file.",
        ]
    lines += [
        "",
        f"Optuna in SQLite, after {WHOLE:,} trials: {found['optuna_ms']['ask']} ms for the next trial, "
        f"{found['optuna_ms']['report']} ms for an epoch reported and the question whether to prune.",
        "",
        f"## Worked out, not measured: {WHOLE:,} trials of the default training",
        "",
        f"A trial on the better of the two layouts takes {duration(trial)}. Shares above 1 mean: cannot keep up.",
        "",
        f"| machines of {machine['cores']} cores | workers | time | core hours | {' | '.join(rows[0]['load'])} |",
        "|---|---|---|---|" + "---|" * len(rows[0]["load"]),
    ]
    lines += [
        f"| {row['machines']} | {row['workers']} | {row['hours']} h | {row['core_hours']} | "
        + " | ".join(f"{share:.3f}" for share in row["load"].values())
        + " |"
        for row in rows
    ]
    load = rows[-1]["load"]
    first = max(load, key=load.get)
    full = rows[-1]["machines"] / load[first]
    lines += [
        "",
        f"First bottleneck: {first}, full at about {full:,.0f} machines. Until there the hours are training",
        "and nothing else: a trial costs epochs times faces, so pruning and smaller faces save more than any engine.",
        "",
        "Assumed: machines like this one; every trial runs to its end; MLflow's clients, its server and PostgreSQL shared",
        "this machine's cores, so a server of its own takes more. Ray's own head was tried with no more than two nodes.",
    ]
    return "\n".join([*lines, ""])


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
    found = {
        "machine": provenance.machine(),
        "images": IMAGES,
        "training_images": len(Dataset.load(FACES).split("train").faces),
    }
    say("trials on one worker, on two, and without Ray")
    found["trials"] = []
    for threads in (os.cpu_count(), max(os.cpu_count() // 2, 1)):
        found["trials"].append(trials(threads))
        say(f"  {found['trials'][-1]}")
    found["plain_seconds"] = plain()
    say("Optuna's answers")
    found["optuna_ms"] = optuna_ms()
    say("MLflow's writes")
    found["writes"] = writes()
    files.write_json(NOTES, found)
    files.write_text(PAGE, text(found))
    say(f"wrote {PAGE}")


if __name__ == "__main__":
    run(main)
