"""`python -m ferlab run-recipes`: the trainings of several recipes side by side on a Ray cluster; all else by DVC, here.

Each training is the stage's own program with FERLAB_RAY set: locks, resume, MLflow and files are those of `dvc repro`. DVC, which
runs one stage at a time, then takes the outputs over (`dvc commit`) and judges them.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from ferlab import files, params

PIPELINE = params.RECIPES / "dvc.yaml"


def run(keys, engine="local", connect=None, report=print):
    """Train and judge what is stale of `keys`; returns the keys that failed, each told in a line.

    engine: local, one after the other by `dvc repro`, or ray; connect: then gives a ferlab.cluster.Cluster, as for sweep.
    """
    known = next(one["networks"] for one in params.raw(PIPELINE)["vars"] if "networks" in one)
    for key in keys:
        if key not in known:
            raise files.UserError(f"{PIPELINE}: no network {key!r}; choose of {', '.join(known)}")
    failed = []
    if engine == "ray":
        failed = _train(keys, known, connect, report)
    for key in keys:
        if key not in failed and _dvc("repro", f"judge@{key}").returncode:
            report(f"{key}: not judged")
            failed.append(key)
    return failed


def _train(keys, known, connect, report):
    """Train on the cluster what is stale, as many at a time as it has room for; returns the keys that failed."""
    folder = files.root() / ".ferlab/cluster"
    folder.mkdir(parents=True, exist_ok=True)
    cluster = connect(folder)  # before anything is made: what is wrong with it shows at once
    try:
        if _dvc("repro", *dict.fromkeys(f"balance@{known[key]['recipe']}" for key in keys)).returncode:
            raise files.UserError("dvc repro balance: failed; mend what it says above")
        stale = [key for key in keys if _is_stale(key)]
        environment = os.environ | {"FERLAB_RAY": cluster.address, "FERLAB_THREADS": str(cluster.threads),
                                    "FERLAB_STORAGE": cluster.storage}
        with ThreadPoolExecutor(max(cluster.slots(), 1)) as pool:
            codes = list(pool.map(lambda key: _stage(key, known[key], environment, report), stale))
    finally:
        cluster.close()
    done = [key for key, code in zip(stale, codes, strict=True) if not code]
    for key in done:
        if _dvc("commit", "--force", "--quiet", f"train@{key}").returncode:
            raise files.UserError(f"dvc commit train@{key}: failed; mend what it says above")
    return [key for key in stale if key not in done]


def _stage(key, network, environment, report):
    command = [sys.executable, "-m", "stages.train", "--recipe", network["recipe"], "--seed", str(network["seed"])]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        report(f"{key}: {line.rstrip()}")
    return process.wait()


def _is_stale(key):
    """Whether `dvc repro` would train it, or its model is nowhere."""
    said = _dvc("status", "--quiet", f"train@{key}", capture_output=True)
    return said.returncode != 0


def _dvc(verb, *arguments, **options):
    return subprocess.run([sys.executable, "-m", "dvc", "--cd", str(params.RECIPES), verb, *arguments], check=False, **options)
