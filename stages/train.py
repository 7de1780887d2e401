"""train: data/balanced -> models/model.keras, models/history.csv. Reads the section `train`.

The resume state and the run's record are no outputs: they stand under .ferlab in the main
repository. With FERLAB_RAY the training itself happens on a Ray cluster
(ferlab/scaling/cluster.py); all else stays here.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.scaling import cluster
from ferlab.tracking import provenance
from ferlab.tracking.epoch_logger import EpochLogger
from ferlab.training import (
    backend,
    batches,
    callbacks,
    checkpoint,
    fingerprint,
    loop,
    model_file,
    network,
)
from stages import run


def main(
    experiment,
    balanced=Path("data/balanced"),
    model=Path("models/model.keras"),
    history=Path("models/history.csv"),
):
    settings, dataset = experiment.settings.train, Dataset.load(balanced)
    loop.train_and_selection(
        dataset, settings
    )  # refuses what lacks a split, before Keras is loaded
    key, on_ray = fingerprint.fingerprint(settings, dataset), bool(os.environ.get("FERLAB_RAY"))
    writing = checkpoint.lock(model.parent / ".lock")
    with writing as allowed, checkpoint.resume_folder(key) as folder:
        if not allowed:
            raise files.UserError(
                f"{model}: another training is writing here; wait for it or stop it"
            )
        start(settings, dataset, folder, on_ray)
        logger = EpochLogger(
            experiment.values(), dataset.name, key, folder / "live.json", experiment.key
        )
        reporter = callbacks.Reporter(settings, logger, memory_of_this_machine())
        with reporter.closing():
            trained = (train_on_ray if on_ray else train_here)(dataset, settings, folder, reporter)
        trained.write_model(model)
        files.write_csv(history, trained.history, "%.8g")
        logger.close()
        record = logger.record(dataset.name, trained.parameters, trained.seconds, trained.precision)
        provenance.write_run(model, record | {"machine": trained.machine})
        # The checkpoint last: killed in between, the next call finds the training finished.
        (folder / "live.json").unlink(missing_ok=True)
        trained.remove_checkpoint()


def memory_of_this_machine():
    """The file that keeps which trainings this machine, with these versions, repeats exactly."""
    machine = hashlib.sha256(json.dumps(provenance.machine()).encode()).hexdigest()[:12]
    return files.root() / ".ferlab" / "repeats" / f"{machine}.json"


@dataclass(frozen=True)
class Trained:
    """A finished training. seconds: of each epoch; parameters: how many the network has;
    precision: that of its arithmetic.
    """

    write_model: Callable  # given a path
    history: pd.DataFrame
    seconds: list
    parameters: int
    machine: dict
    precision: str
    remove_checkpoint: Callable


def start(settings, dataset, folder, on_ray):
    """Start Keras, unless that is the cluster's matter, and print what is worth knowing first."""
    if os.environ.get("FERLAB_PROCESSES") and settings.devices < 2:
        raise files.UserError(
            "FERLAB_PROCESSES: needs train.backend: jax, and train.devices: "
            "as many as all processes have"
        )
    if not on_ray:
        backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    left_out = sum(
        len(part.faces) - len(batches.supervised(part, settings.labels).faces)
        for part in (dataset.split("train"), dataset.split(settings.select_on))
    )
    if left_out:
        print(f"FER+ labels: {left_out} images have no votes for these classes and are left out")
    if (folder / "checkpoint.npz").exists():
        print("resuming an interrupted training")
    elif not on_ray and (line := about_precision(settings)):
        print(line)


def about_precision(settings):
    """What is worth knowing of `train.precision` on this machine, in a line, or None."""
    if backend.has_gpu(settings.backend):
        return None
    in_hardware = backend.has_bfloat16()
    if settings.precision == "float32" and in_hardware:
        return "this processor has bfloat16: train.precision=auto is 1.5 to 2 times faster"
    if settings.precision == "auto" and in_hardware is None:
        return (
            "train.precision=auto: this system does not say whether its processor multiplies "
            "bfloat16, so float32 is used"
        )
    if settings.precision == "bfloat16" and not in_hardware:
        times = network.slowdown_of_bfloat16()
        return (
            f"train.precision=bfloat16: this processor emulates it; a convolution took {times:.0f} "
            "times as long as in float32 just now; train.precision=auto avoids it"
        )
    return None


def train_here(dataset, settings, folder, reporter):
    """The Trained of this process."""
    state = folder / "checkpoint.npz"
    model, history, seconds = loop.fit(dataset, settings, state, reporter)
    return Trained(
        functools.partial(model_file.save, model, about=model_file.about(dataset, settings)),
        history,
        seconds,
        model.count_params(),
        provenance.machine(),
        backend.precision_of(settings.precision, settings.backend),
        functools.partial(state.unlink, missing_ok=True),
    )


def train_on_ray(dataset, settings, folder, reporter):
    """The Trained of the cluster that FERLAB_RAY names."""
    finished, remove_checkpoint = cluster.fit(
        dataset,
        settings,
        folder,
        reporter.on_epoch,
        reporter.on_nondeterministic,
        reporter.stop_without_dvc,
    )
    write_model = functools.partial(_write_bytes, finished.pop("model"))
    return Trained(write_model, **finished, remove_checkpoint=remove_checkpoint)


def _write_bytes(content, path):
    with files.replacing(path) as part:
        part.write_bytes(content)


if __name__ == "__main__":
    run(main)
