"""Where a result comes from: machine, versions, commit, seconds; kept in run.json, beside no DVC output."""

import contextlib
import hashlib
import os
import platform
import subprocess
from pathlib import Path

from ferlab import files

RUNS = Path(".ferlab/runs")  # run.json of each model, by the model file's md5


def write_run(model, record):
    files.write_json(files.root() / RUNS / f"{md5(model)}.json", record)


def read_run(model):
    """run.json of a model file, or {} where it was trained elsewhere."""
    return run_of(md5(model))


def run_of(md5):
    """The same, of the file's md5."""
    path = files.root() / RUNS / f"{md5}.json"
    return files.read_json(path) if path.exists() else {}


def record(predictions, dataset, parameters, seconds):
    """Note the run that made predictions without training: a baseline or an ensemble."""
    write_run(predictions, {
        "dataset": dataset,
        "parameters": parameters,
        "train_seconds": round(seconds, 2),
        "epochs": [],
        "training": None,
        "machine": machine(),
        "commit": commit(),
    })  # fmt: skip


def machine():
    """Processor, cores, memory and versions, as text: what decides speed and what bits depend on."""
    import importlib.metadata

    import psutil

    def versions(name):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu,
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        **{
            name: versions(name)
            for name in ("keras", "tensorflow", "jax", "torch", "numpy")
            if versions(name)
        },
    }


def commit():
    """The commit that a result belongs to; of an experiment the one it started from."""
    if os.environ.get("DVC_EXP_BASELINE_REV"):
        return os.environ["DVC_EXP_BASELINE_REV"]
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=files.root(), capture_output=True, text=True
    )
    return found.stdout.strip()


def md5(path):
    """As DVC writes it into dvc.lock."""
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
