"""One training as a trainable of Ray Tune, on whatever node, and what the command is told of it."""

import contextlib
import hashlib
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from ray import tune

from ferlab import params
from ferlab.files import UserError
from ferlab.secrets import one_line
from ferlab.tracking import provenance

PACKAGES = ("keras", "numpy", "opencv-python-headless", "tensorflow", "jax", "torch", "ray")


class Told(tune.Callback):
    """Calls functions of this process: on_wait(), again and again; on_report(Tune's Trial, report);
    on_end(Tune's Trial).

    They belong to the class: Tune pickles its callbacks for a command that goes on after this one
    died.
    """

    on_wait = on_report = on_end = None

    def on_step_begin(self, iteration, trials, **info):
        Told.on_wait()

    def on_trial_result(self, iteration, trials, trial, result, **info):
        Told.on_report(trial, result)

    def on_trial_complete(self, iteration, trials, trial, **info):
        Told.on_end(trial)

    on_trial_error = on_trial_complete


def versions():
    """{package: version} of what decides a training's bits, here."""
    import importlib.metadata

    installed = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def _differences(found, expected):
    """What is other in two answers of `versions`, as text; nothing where they are equal."""
    return ", ".join(
        f"{name} {found.get(name, 'none')} where the command has {expected.get(name, 'none')}"
        for name in {**expected, **found}
        if found.get(name) != expected.get(name)
    )


def train(config, dataset, settings, expected_versions):
    """Train, and report each epoch with its checkpoint; goes on from the last one Tune has.

    config: {train.<name>: value}, what differs from settings (the train section). Reports: kept,
    the accuracy of the weights that would be kept; row, of the history; seconds; notes, lines. The
    last report has instead of a row `finished`, what the training's record needs, with the model
    itself where nothing differs. An error of the training's own is reported as `failed`: what is
    raised, Tune tries again.
    """
    try:
        if others := _differences(versions(), expected_versions):
            raise UserError(
                f"node {socket.gethostname()} has {others}; install the command's lock there"
            )
        changes = {key.partition(".")[2]: value for key, value in config.items()}
        settings = params.Train.model_validate(settings.model_dump() | changes)
        with tempfile.TemporaryDirectory() as folder:
            tune.report(_trained(dataset, settings, Path(folder), with_model=not config))
    except Exception as error:
        reason = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        tune.report({"epoch": 0, "kept": 0.0, "failed": one_line(reason)})


def _trained(dataset, settings, folder, with_model):
    """Train and report each epoch; returns the last report. folder: for the checkpoint alone."""
    from ferlab.training import backend, checkpoint, loop, model_file
    from ferlab.training.callbacks import Callbacks

    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    state, accuracies, notes = folder / "checkpoint.npz", [], []
    if kept := tune.get_checkpoint():
        with kept.as_directory() as there:
            shutil.copy(Path(there) / state.name, state)
        done = checkpoint.load(state).history
        accuracies += [row["selection_accuracy"] for row in done]
        notes.append("resuming an interrupted training")

    def epoch(row, seconds):
        accuracies.append(row["selection_accuracy"])
        kept = accuracies[-1] if settings.keep == "last" else max(accuracies)
        report = {"epoch": row["epoch"], "kept": kept, "row": row, "seconds": seconds}
        try:
            kept_state = tune.Checkpoint.from_directory(folder)
            tune.report(report | {"notes": notes}, checkpoint=kept_state)
        except Exception as error:  # a full bucket costs the resume, it must not cost the training
            line = f"{one_line(error)}; the training goes on, but could not be resumed"
            tune.report(report | {"notes": [*notes, line]})
        notes.clear()

    def nondeterministic():
        notes.append("nondeterministic")

    callbacks = Callbacks(on_epoch=epoch, on_nondeterministic=nondeterministic)
    model, history, seconds = loop.fit(dataset, settings, state, callbacks)
    model_file.save(model, folder / "model.keras", model_file.about(dataset, settings))
    content = (folder / "model.keras").read_bytes()
    finished = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "model": content if with_model else None,
        "history": history.to_dict("records"),
        "seconds": seconds,
        "parameters": model.count_params(),
        "machine": provenance.machine(),
        "precision": backend.precision_of(settings.precision, settings.backend),
    }
    kept = float(history.loc[history["chosen"] == 1, "selection_accuracy"].iloc[0])
    return {"epoch": len(history), "kept": kept, "notes": notes, "finished": finished}
