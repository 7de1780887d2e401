"""Where a result comes from: date, machine, versions, commit, seconds.

They cannot be equal between two runs, so they stand in a run.json, which is no DVC output.
"""

import calendar
import contextlib
import os
import platform
import re
import time
from pathlib import Path

from ferlab import dvc_files, files
from ferlab.files import md5

RUNS = Path(".ferlab/runs")  # run.json of each model, by the model file's md5


def write_run(model, run):
    """Keep a run.json for the model file (or predictions) at `model`."""
    files.write_json(_path(md5(model)), run)


def read_run(model):
    """The run.json of a model file, or {} where it was trained elsewhere."""
    return read_run_of(md5(model))


def read_run_of(md5):
    """The same, of the file's md5."""
    path = _path(md5)
    if not path.exists():
        return {}
    # one of an older version does not say when: it was written at the end
    return {"finished": utc(path.stat().st_mtime)} | files.read_json(path)


def _path(md5):
    return files.root() / RUNS / f"{md5}.json"


def committed(path):
    """The content of a committed run.json, {} without one; it ended when it was committed, where
    an older version did not say when.
    """
    if not path.exists():
        return {}
    day = dvc_files.git("log", "-1", "--format=%ct", "--", path.name, folder=path.parent).stdout
    return ({"finished": utc(int(day))} if day else {}) | files.read_json(path)


def run_of(dataset, parameters, train_seconds, epochs=(), training=None, precision=None):
    """The content of a run.json, made on this machine.

    dataset: its name. parameters: the number of weights. epochs: the seconds of each epoch.
    training: the hash of all that decides the weights; precision: of the arithmetic, float32 or
    bfloat16; both None for what trains no network.
    """
    return {
        "dataset": dataset,
        "parameters": parameters,
        "train_seconds": round(train_seconds, 2),
        "epochs": list(epochs),
        "finished": utc(time.time()),
        "training": training,
        "precision": precision,
        "machine": machine(),
        "commit": commit(),
    }


def utc(seconds):
    """Seconds since 1970 as `2026-11-26T08:30:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def end(run, now=None):
    """When a training ended, in seconds since 1970. run: the content of a run.json, which says it
    in `finished`; else it ended `now`, by default at this moment.
    """
    if "finished" not in run:
        return time.time() if now is None else now
    return calendar.timegm(time.strptime(run["finished"], "%Y-%m-%dT%H:%M:%SZ"))


def record(path, dataset, parameters, seconds):
    """Keep the run.json of predictions that no trained network made: a baseline or an ensemble."""
    write_run(path, run_of(dataset, parameters, seconds))


def machine():
    """Processor, cores, memory, NVIDIA's GPUs if any, and versions: what decides speed and bits."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        **_gpus(),
        **_versions("keras", "tensorflow", "jax", "torch", "numpy"),
    }


def _cpu():
    """The processor's name, as far as the system says it.

    A virtual machine may say no more than `AMD EPYC`, of which one generation trains nearly twice
    as fast as the one before: without a number in the name, the processor's own family and model
    are added.
    """
    said = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            said.setdefault(key.strip(), value.strip())
    name = said.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in said and not re.search(r"\d", name):
        name += f" (family {said['cpu family']}, model {said['model']})"
    return name


def _gpus(driver=Path("/proc/driver/nvidia/gpus")):
    """{"gpu": the names of NVIDIA's GPUs, as the driver says them}, or {} without one."""
    names = []
    for information in sorted(driver.glob("*/information")):
        with contextlib.suppress(OSError):
            names += re.findall(r"^Model:\s*(.+?)\s*$", information.read_text(), re.MULTILINE)
    return {"gpu": ", ".join(names)} if names else {}


def _versions(*names):
    """{name: version} of those packages that are installed."""
    import importlib.metadata

    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def commit():
    """The commit that a result belongs to; of an experiment the one it started from."""
    if os.environ.get("DVC_EXP_BASELINE_REV"):
        return os.environ["DVC_EXP_BASELINE_REV"]
    return dvc_files.git("rev-parse", "HEAD").stdout.strip()
