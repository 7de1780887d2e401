"""What runs in Ray's processes: a training on whatever node, and the queue through which trainings
report.
"""

import contextlib
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ferlab.files import UserError
from ferlab.scaling.storage import Checkpoint
from ferlab.secrets import masked, one_line
from ferlab.tracking import provenance

PACKAGES = ("keras", "numpy", "opencv-python-headless", "tensorflow", "jax", "torch", "ray")


class EventQueue:
    """A Ray actor beside the driver: keeps what trainings report, and answers whether to stop."""

    def __init__(self):
        self.events, self.stopped = [], set()

    def begin(self, name):
        """Forget that a training of this name was ever stopped."""
        self.stopped.discard(name)

    def stop(self, name):
        """Let the training of this name end at its next report."""
        self.stopped.add(name)

    def put(self, name, kind, content):
        """Keep an event of a training; returns whether that training is to stop."""
        self.events.append((name, kind, content))
        return name in self.stopped

    def take(self):
        """The events since the last call."""
        events, self.events = self.events, []
        return events


class Stopped(Exception):
    """Ends a training that is no longer wanted."""


def versions():
    """{package: version} of what decides a training's bits, here."""
    import importlib.metadata

    installed = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def train(dataset, settings, name, storage, expected_versions, queue):
    """A Ray task: one training, from its checkpoint where there is one.

    settings: the train section. queue: the EventQueue. Returns what `Cluster.events` gives with
    "done", or None where the training was stopped.
    """
    from ferlab.training import backend, loop, model_file
    from ferlab.training.callbacks import Callbacks

    if expected_versions != versions():
        raise UserError(
            f"node {socket.gethostname()} has {versions()}, this machine {expected_versions}; "
            "install the same lock there"
        )
    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    checkpoint, report = Checkpoint(storage, name), _reporter(queue, name)

    def epoch(row, seconds):
        try:
            checkpoint.put(resume_state)
        except Exception as error:  # a full bucket costs the resume, it must not cost the training
            report(
                "unsaved",
                f"{masked(checkpoint.path)}: {one_line(error)}; "
                "the training goes on, but could not be resumed",
            )
        if report("epoch", (row, seconds)):
            raise Stopped

    def nondeterministic():
        report("nondeterministic")

    with tempfile.TemporaryDirectory() as folder:
        resume_state, trained = Path(folder) / "checkpoint.npz", Path(folder) / "model.keras"
        checkpoint.get(resume_state)
        _report_resume(resume_state, report)
        try:
            callbacks = Callbacks(on_epoch=epoch, on_nondeterministic=nondeterministic)
            model, history, seconds = loop.fit(dataset, settings, resume_state, callbacks)
        except Stopped:
            return None
        model_file.save(model, trained, model_file.about(dataset, settings))
        return {
            "model": trained.read_bytes(),
            "history": history,
            "seconds": seconds,
            "parameters": model.count_params(),
            "machine": provenance.machine(),
            "precision": backend.precision_of(settings.precision, settings.backend),
        }


def _reporter(queue, name):
    """A function (kind, content=None) that reports an event; returns whether to stop.

    It waits in a thread of its own: where the main thread waits for Ray, Ray lends the training's
    cores to the next one.
    """
    import ray

    thread = ThreadPoolExecutor(1)

    def report(kind, content=None):
        return thread.submit(lambda: ray.get(queue.put.remote(name, kind, content))).result()

    return report


def _report_resume(resume_state, report):
    """Report the epochs that a checkpoint already holds: the driver may be a new one."""
    from ferlab.training import checkpoint

    if resume_state.exists():
        report("resumed")
        state = checkpoint.load(resume_state)
        for row_and_seconds in zip(state.history, state.seconds, strict=True):
            report("epoch", row_and_seconds)
