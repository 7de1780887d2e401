"""`python -m ferlab run-recipes`: the trainings of several recipes side by side on a Ray cluster; all else by DVC, here.

Each training is the stage's own program with FERLAB_RAY set: locks, resume, MLflow and files are those of `dvc repro`. DVC, which
runs one stage at a time, then takes the outputs over (`dvc commit`) and judges them.
"""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from ferlab import files, params, recipes

PIPELINE = recipes.RECIPES / "dvc.yaml"
TURN = threading.Lock()  # DVC takes over one result at a time


def run(keys, connect=None, report=print):
    """Train and judge what is stale of `keys`; returns the keys that failed, each told in a line.

    connect: gives a ferlab.cluster.Cluster, as for sweep; without it DVC trains here, one after the other.
    """
    known = next(one["networks"] for one in params.raw(PIPELINE)["vars"] if "networks" in one)
    for key in keys:
        if key not in known:
            raise files.UserError(f"{PIPELINE}: no network {key!r}; choose of {', '.join(known)}")
    failed = _train(keys, known, connect, report) if connect else []
    for key in keys:
        if key not in failed and _dvc("repro", f"judge@{key}").returncode:
            report(f"{key}: not judged")
            failed.append(key)
    return failed


def _train(keys, known, connect, report):
    """Train on the cluster what is stale, as many at a time as it has room for; returns the keys that failed."""
    folder = files.root() / ".ferlab/cluster"
    folder.mkdir(parents=True, exist_ok=True)
    cluster, processes = (
        connect(folder),
        {},
    )  # before anything is made: what is wrong with the cluster shows at once
    environment = os.environ | {
        "FERLAB_RAY": cluster.address,
        "FERLAB_THREADS": str(cluster.threads),
        "FERLAB_STORAGE": cluster.storage,
    }
    try:
        if _dvc(
            "repro", *dict.fromkeys(f"balance@{known[key]['recipe']}" for key in keys)
        ).returncode:
            raise files.UserError("dvc repro balance: failed; mend what it says above")
        stale = [key for key in keys if _is_stale(key)]
        pool = ThreadPoolExecutor(max(cluster.slots(), 1))
        try:
            codes = list(
                pool.map(lambda key: _stage(key, known[key], environment, processes, report), stale)
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes.values():
                process.send_signal(2)  # as Ctrl-C: they end in order, and resume
            raise
    finally:
        cluster.close()
    return [key for key, code in zip(stale, codes, strict=True) if code]


def _stage(key, network, environment, processes, report):
    """Train one key and let DVC take over what it wrote; returns 0 if both went well."""
    command = [
        sys.executable,
        "-m",
        "stages.train",
        "--recipe",
        network["recipe"],
        "--seed",
        str(network["seed"]),
    ]
    processes[key] = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )  # a Ctrl-C at the keyboard reaches them once, from above
    for line in processes[key].stdout:
        report(f"{key}: {line.rstrip()}")
    code = processes[key].wait()
    if not code:
        with TURN:
            code = _dvc("commit", "--force", "--quiet", f"train@{key}").returncode
    return code


def _is_stale(key):
    """Whether `dvc repro` would train it; a model that DVC's cache holds is brought from there."""
    _dvc("checkout", "--quiet", "--allow-missing", f"train@{key}")
    said = _dvc("status", "--json", f"train@{key}", stdout=subprocess.PIPE)
    if said.returncode:
        raise files.UserError(f"dvc status train@{key}: failed; mend what it says above")
    return bool(json.loads(said.stdout))


def _dvc(verb, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "dvc", "--cd", str(recipes.RECIPES), verb, *arguments],
        check=False,
        **options,
    )
