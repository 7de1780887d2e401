"""`python -m ferlab run-recipes`: the trainings of several recipes side by side on a Ray cluster;
everything else by DVC, here.

DVC runs one stage at a time, but several DVC at once share a workspace, each waiting for the lock.
A stage that finds FERLAB_RAY trains on the cluster.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from ferlab import files, params, recipes

KEYS = recipes.RECIPES / "keys.yaml"


def run(keys, connect=None, report=print):
    """Train and evaluate what is stale of `keys`; returns the keys that failed, each reported in a
    line.

    connect: gives a ferlab.scaling.cluster.Cluster, as for sweep; without it DVC trains here, one
    after the other. Raises UserError for an unknown key, and where DVC itself fails.
    """
    networks = params.raw(KEYS)["networks"]
    for key in keys:
        if key not in networks:
            known = recipes.known(key, list(networks))
            raise files.UserError(f"{KEYS}: no network {key!r}{known}")
    failed = _train(keys, networks, connect, report) if connect else []
    for key in keys:
        if key not in failed and _ended(_dvc("repro", f"evaluate@{key}")):
            report(f"{key}: not evaluated")
            failed.append(key)
    return failed


def _train(keys, networks, connect, report):
    """Train what is stale on the cluster, as many at a time as fit; returns the failed keys."""
    folder = files.root() / ".ferlab/cluster"
    folder.mkdir(parents=True, exist_ok=True)
    cluster = connect(folder)  # before anything is made: what is wrong with it shows at once
    environment = files.environment() | {
        "FERLAB_RAY": cluster.address,
        "FERLAB_THREADS": str(cluster.threads),
        "FERLAB_STORAGE": cluster.storage,
    }
    trainings, pool = {}, ThreadPoolExecutor(max(cluster.capacity(), 1))

    def train(key):
        trainings[key] = _dvc(
            *("--wait-for-lock", "repro", "--quiet", "--single-item", f"train@{key}"),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # a Ctrl-C at the keyboard reaches them once, from below
        )
        for line in trainings[key].stdout:
            report(f"{key}: {line.rstrip()}")
        return trainings[key].wait()

    try:
        balanced = dict.fromkeys(f"balance@{networks[key]['recipe']}" for key in keys)
        if _ended(_dvc("repro", *balanced)):
            raise files.UserError("dvc repro balance: failed; fix what it says above")
        return [key for key, code in zip(keys, pool.map(train, keys), strict=True) if code]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in trainings.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # each ends in order, and resumes later
        raise
    finally:
        pool.shutdown()
        cluster.close()


def _dvc(*arguments, env=None, **options):
    """A started DVC."""
    command = [sys.executable, "-m", "dvc", "--cd", str(recipes.RECIPES), *arguments]
    return subprocess.Popen(command, env=env or files.environment(), **options)


def _ended(process):
    """The exit code of a started DVC. A Ctrl-C reaches it, too, so its end is waited for: what it
    has in hand ends in order, and holds its locks until then.
    """
    interrupted = False
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            interrupted = True
            continue
        if interrupted:
            raise KeyboardInterrupt
        return code
