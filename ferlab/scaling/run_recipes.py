"""`python -m ferlab run-recipes`: the trainings of several recipes side by side on a Ray cluster;
everything else by DVC, here.

Each training is the stage's own program with FERLAB_RAY set: locks, resume, MLflow and files are
those of `dvc repro`. DVC, which runs one stage at a time, then takes the outputs over
(`dvc commit`) and evaluates them.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from ferlab import files, params, recipes

PIPELINE = recipes.RECIPES / "dvc.yaml"
COMMIT_LOCK = threading.Lock()  # DVC takes over one result at a time


def run(keys, connect=None, report=print):
    """Train and evaluate what is stale of `keys`; returns the keys that failed, each reported in a
    line.

    connect: gives a ferlab.scaling.cluster.Cluster, as for sweep; without it DVC trains here, one
    after the other. Raises UserError for an unknown key, and where DVC itself fails.
    """
    networks = next(
        entry["networks"] for entry in params.raw(PIPELINE)["vars"] if "networks" in entry
    )
    for key in keys:
        if key not in networks:
            known = recipes.known(key, list(networks))
            raise files.UserError(f"{PIPELINE}: no network {key!r}{known}")
    failed = _train(keys, networks, connect, report) if connect else []
    for key in keys:
        if key not in failed and _dvc("repro", f"evaluate@{key}").returncode:
            report(f"{key}: not evaluated")
            failed.append(key)
    return failed


def _train(keys, networks, connect, report):
    """Train what is stale on the cluster, as many at a time as fit; returns the failed keys."""
    folder = files.root() / ".ferlab/cluster"
    folder.mkdir(parents=True, exist_ok=True)
    cluster = connect(folder)  # before anything is made: what is wrong with it shows at once
    environment = os.environ | {
        "FERLAB_RAY": cluster.address,
        "FERLAB_THREADS": str(cluster.threads),
        "FERLAB_STORAGE": cluster.storage,
    }
    try:
        balanced = dict.fromkeys(f"balance@{networks[key]['recipe']}" for key in keys)
        if _dvc("repro", *balanced).returncode:
            raise files.UserError("dvc repro balance: failed; fix what it says above")
        stale = [key for key in keys if _is_stale(key)]
        codes = _side_by_side(
            stale,
            max(cluster.capacity(), 1),
            lambda key, processes: _stage(
                key, networks[key]["recipe"], environment, processes, report
            ),
        )
    finally:
        cluster.close()
    return [key for key, code in zip(stale, codes, strict=True) if code]


def _side_by_side(keys, capacity, stage):
    """The exit codes of stage(key, processes) for all keys, `capacity` at a time; Ctrl-C ends each
    in order, so that they resume."""
    processes, pool = {}, ThreadPoolExecutor(capacity)
    try:
        return list(pool.map(lambda key: stage(key, processes), keys))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        raise


def _stage(key, recipe, environment, processes, report):
    """Train one key and let DVC take over what it wrote; returns 0 if both went well."""
    processes[key] = subprocess.Popen(
        _command(key, recipe),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,  # a Ctrl-C at the keyboard reaches them once, from _side_by_side
    )
    for line in processes[key].stdout:
        report(f"{key}: {line.rstrip()}")
    code = processes[key].wait()
    if code:
        return code
    with COMMIT_LOCK:
        return _dvc("commit", "--force", "--quiet", f"train@{key}").returncode


def _command(key, recipe):
    """The stage's command in recipes/dvc.yaml, `cd .. && python -m stages.train ...`, for a key."""
    command = params.raw(PIPELINE)["stages"]["train"]["do"]["cmd"].partition("python ")[2]
    command = command.replace("${key}", key).replace("${item.recipe}", recipe)
    return [sys.executable, *shlex.split(command)]


def _is_stale(key):
    """Whether `dvc repro` would train it; a model in DVC's cache is brought from there."""
    _dvc("checkout", "--quiet", "--allow-missing", f"train@{key}")
    status = _dvc("status", "--json", f"train@{key}", stdout=subprocess.PIPE)
    if status.returncode:
        raise files.UserError(f"dvc status train@{key}: failed; fix what it says above")
    return bool(json.loads(status.stdout))


def _dvc(verb, *arguments, **options):
    command = [sys.executable, "-m", "dvc", "--cd", str(recipes.RECIPES), verb, *arguments]
    return subprocess.run(command, check=False, **options)
