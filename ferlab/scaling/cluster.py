"""Trainings on a Ray cluster: Ray places them, starts them again where a process or a node died, and brings their results.

Nothing here schedules. A training writes its checkpoint to a storage that all nodes reach, after each epoch; begun again, on
whatever node, it goes on from there to the same bytes. The faces are sent once and stand once in each node's shared memory.
"""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.tracking import provenance

SERVER_TIMEOUT, JOIN_TIMEOUT = (
    8,
    4,
)  # seconds that a server or a storage may take to answer, and that a node may be late


class Cluster:
    """A connection to the cluster at `address` (`local`: this machine alone; `auto`: the one this machine belongs to).

    threads: processor threads of a training, which Ray counts as its cores. nodes: how many must be there. Checkpoints go to
    `folder`, or to `storage`: a folder that all nodes see, or any address that fsspec knows; several machines need it.
    Raises UserError in one line, within seconds.
    """

    def __init__(self, address="local", threads=1, nodes=1, *, folder, storage=None):
        if not importlib.util.find_spec("ray"):
            raise files.UserError(
                "ray is not installed; pip install --require-hashes -r requirements-scale.txt"
            )
        self.threads = threads
        self.storage = (
            storage if "://" in str(storage) else f"file://{Path(storage or folder).resolve()}"
        )
        _try_storage(self.storage)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault(
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
        )  # Ray's new way, which it otherwise announces
        os.environ.setdefault(
            "RAY_gcs_server_request_timeout_seconds", str(SERVER_TIMEOUT)
        )  # it would look for its node for a minute
        if address != "local":
            _answers(address)
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray = ray
        cap = {
            name: str(threads)
            for name in (
                "OMP_NUM_THREADS",
                "OPENBLAS_NUM_THREADS",
                "TF_NUM_INTRAOP_THREADS",
                "TF_NUM_INTEROP_THREADS",
                "NPROC",
            )
        }
        try:
            ray.init(
                address,
                runtime_env={"py_modules": [str(Path(__file__).parents[1])], "env_vars": cap},
                log_to_driver=False,
                logging_level="ERROR",
                **({"include_dashboard": False} if address == "local" else {}),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address == "local":
                raise files.UserError(
                    f"Ray cannot be started here ({files.one_line(error)})"
                ) from None
            raise files.UserError(
                f"--address {address}: this machine is no node of that cluster ({files.one_line(error)}); "
                f"run here: ray start --address={address}"
            ) from None
        try:
            self._gather(nodes, storage)
        except files.UserError:
            ray.shutdown()
            raise
        self.address = ray.get_runtime_context().gcs_address
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # begun again if its process dies: what it had not yet handed on comes with the result
        self.desk = ray.remote(
            num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1
        )(_Desk).remote()
        self.task = ray.remote(num_cpus=threads, max_retries=20)(
            _train
        )  # a retry is for a dead process or node, never an error
        self.running, self.told, self.versions = {}, {}, _versions()

    def _gather(self, nodes, storage):
        until = time.monotonic() + JOIN_TIMEOUT
        while (
            len(
                there := [
                    node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]
                ]
            )
            < nodes
        ):
            if time.monotonic() > until:
                raise files.UserError(
                    f"--nodes {nodes}: {len(there)} joined within {JOIN_TIMEOUT} seconds; look at `ray status`, "
                    "or ask for fewer"
                )
            time.sleep(0.2)
        if max(there) < self.threads:
            raise files.UserError(
                f"--threads {self.threads}: the largest node has {max(there):g} cores; ask for fewer"
            )
        machines = {node["NodeManagerAddress"] for node in self.ray.nodes() if node["Alive"]}
        if len(machines) > 1 and not storage:
            raise files.UserError(
                f"this cluster has {len(machines)} machines, which need one place for checkpoints: "
                "--storage <a folder that all see, or s3://...> (FERLAB_STORAGE for a stage)"
            )

    def slots(self):
        """How many trainings the nodes that live have room for."""
        return sum(
            int(node["Resources"].get("CPU", 0) // self.threads)
            for node in self.ray.nodes()
            if node["Alive"]
        )

    def share(self, dataset):
        """Put a Dataset into shared memory; returns what `start` takes."""
        return self.ray.put(shareable(dataset))

    def start(self, name, shared, settings):
        """Send a training (train section) of a shared dataset. name: of this training and of its checkpoint."""
        self.told[name] = set()
        self.ray.get(self.desk.begin.remote(name))
        self.running[name] = self.task.remote(
            shared, settings, name, self.storage, self.versions, self.desk
        )

    def stop(self, name):
        """Let a training end after its current epoch; its checkpoint stays until `forget`."""
        self.desk.stop.remote(name)

    def checkpoint(self, name):
        """A training's checkpoint in the storage."""
        return _Checkpoint(self.storage, name)

    def forget(self, name):
        """Remove a training's checkpoint."""
        with contextlib.suppress(
            Exception
        ):  # libraries for remote storage raise their own kinds; what stays is only litter
            self.checkpoint(name).remove()

    def news(self, wait=0.5):
        """What happened, after at most `wait` seconds: a list of (name, kind, what).

        kinds: "epoch" (history row, seconds), once for each epoch, also for those before a resume; "resumed", "uneven" and
        "unsaved" (a line, or None); at the end one of "done" (a dict: model, the .keras file's bytes; history; seconds;
        parameters; machine), "stopped" or "failed" (an exception).
        """
        ended, _ = (
            self.ray.wait(list(self.running.values()), num_returns=1, timeout=wait)
            if self.running
            else ([], [])
        )
        found = [
            (name, kind, what)
            for name, kind, what in self.ray.get(self.desk.take.remote())
            if self._new(name, kind, what)
        ]
        for name, task in [(name, task) for name, task in self.running.items() if task in ended]:
            del self.running[name]
            try:
                result = self.ray.get(task)
            except Exception as error:  # the training's own, or Ray's last word on it
                found.append((name, "failed", getattr(error, "cause", None) or error))
                continue
            if result is None:
                found.append((name, "stopped", None))
                continue
            rows = zip(
                result["history"].to_dict("records"), result["seconds"], strict=True
            )  # a dying node may not have told all
            found += [(name, "epoch", pair) for pair in rows if self._new(name, "epoch", pair)]
            found.append((name, "done", result))
        return found

    def _new(self, name, kind, what):
        mark = what[0]["epoch"] if kind == "epoch" else kind
        fresh = mark not in self.told.get(name, {mark})
        self.told.get(name, set()).add(mark)
        return fresh

    def close(self):
        """End what still runs; the finished epochs are kept in the storage."""
        for task in self.running.values():
            self.ray.cancel(task, force=True)
        self.ray.shutdown()


class Stopped(Exception):
    """A training that is not wanted any more."""


def shareable(dataset):
    """The Dataset with faces that pickle passes on without a copy, which it does not do for memory-mapped ones."""
    return replace(dataset, faces=np.asarray(dataset.faces))


def fit(dataset, settings, folder, on_epoch, on_uneven, on_wait):
    """ferlab.training.fit on the cluster that FERLAB_RAY names.

    Returns what `Cluster.news` says of a training that is done, and a function that removes its checkpoint, to be called once the
    model is written. FERLAB_THREADS: threads of the training, else as many as this machine has cores. FERLAB_STORAGE: for the
    checkpoint, else `folder`.
    """
    threads = os.environ.get("FERLAB_THREADS", "") or str(os.cpu_count())
    if not threads.isdecimal() or threads == "0":
        raise files.UserError(f"FERLAB_THREADS={threads}: must be a number from 1")
    name = folder.name
    cluster = Cluster(
        os.environ["FERLAB_RAY"],
        int(threads),
        folder=folder,
        storage=os.environ.get("FERLAB_STORAGE"),
    )
    try:
        cluster.start(name, cluster.share(dataset), settings)
        while True:
            on_wait()
            for _, kind, what in cluster.news():
                if kind == "epoch":
                    on_epoch(*what)
                elif kind == "resumed":
                    print("resuming an interrupted training")
                elif kind == "uneven":
                    on_uneven()
                elif kind == "unsaved":
                    print(what)
                elif kind == "failed":
                    raise (
                        what
                        if isinstance(what, files.UserError)
                        else files.UserError(f"the cluster: {files.one_line(what)}")
                    )
                elif kind == "done":
                    return what, lambda: cluster.forget(name)
    finally:
        cluster.close()


class _Desk:
    """An actor beside the driver: takes what trainings tell, and tells them whether to stop."""

    def __init__(self):
        self.news, self.stopped = [], set()

    def tell(self, name, kind, what):
        self.news.append((name, kind, what))
        return name in self.stopped

    def take(self):
        news, self.news = self.news, []
        return news

    def stop(self, name):
        self.stopped.add(name)

    def begin(self, name):
        self.stopped.discard(name)


def _train(dataset, settings, name, storage, versions, desk):
    """A Ray task: one training, from its checkpoint where there is one. Returns None when it was stopped."""
    import ray

    from ferlab.training import backend, checkpoint, loop, model_file
    from ferlab.training.callbacks import Callbacks

    if versions != _versions():
        raise files.UserError(
            f"node {socket.gethostname()} has {_versions()}, this machine {versions}; "
            "install the same lock there"
        )
    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    remote = _Checkpoint(storage, name)

    aside = ThreadPoolExecutor(
        1
    )  # where the main thread waits for Ray, Ray lends its cores to the next training

    def tell(kind, what=None):
        return aside.submit(lambda: ray.get(desk.tell.remote(name, kind, what))).result()

    def epoch(row, seconds):
        try:
            remote.put(resume_state)
        except Exception as error:  # a full bucket must not cost the training, only its resume
            tell(
                "unsaved",
                f"{remote.path}: {files.one_line(error)}; the training goes on, but could not be resumed",
            )
        if tell("epoch", (row, seconds)):
            raise Stopped

    with tempfile.TemporaryDirectory() as folder:
        resume_state, trained = Path(folder) / "checkpoint.npz", Path(folder) / "model.keras"
        remote.get(resume_state)
        if resume_state.exists():
            tell("resumed")
            state = checkpoint.load(resume_state)
            for pair in zip(state.history, state.seconds, strict=True):
                tell("epoch", pair)
        try:
            model, history, seconds = loop.fit(
                dataset,
                settings,
                resume_state,
                Callbacks(on_epoch=epoch, on_nondeterministic=lambda: tell("uneven")),
            )
        except Stopped:
            return None
        model_file.save(model, trained, model_file.about(dataset, settings))
        return {
            "model": trained.read_bytes(),
            "history": history,
            "seconds": seconds,
            "parameters": model.count_params(),
            "machine": provenance.machine(),
        }


class _Checkpoint:
    """A training's checkpoint in the storage; replaced as a whole."""

    def __init__(self, storage, name):
        import fsspec

        made = {"auto_mkdir": True} if storage.startswith("file:") else {}
        self.files, self.path = fsspec.url_to_fs(f"{storage}/{name}.npz", **made)

    def get(self, path):
        self.files.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self.files.get_file(self.path, str(path))

    def put(self, path):
        part = f"{self.path}.part"
        self.files.put_file(str(path), part)
        self.files.mv(part, self.path)

    def remove(self):
        self.files.rm_file(self.path)


def _versions():
    import importlib.metadata

    found = {}
    for name in ("keras", "numpy", "opencv-python-headless", "tensorflow", "jax", "torch", "ray"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found | {"python": ".".join(map(str, sys.version_info[:2]))}


def _answers(address):
    """Raise UserError where no Ray answers at `address`: Ray itself would try for a minute, or end this process."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or "/" in address:
            raise files.UserError(
                f"--address {address}: must be local, auto or <host>:<port> of the head node"
            )
        try:
            socket.create_connection((host, int(port)), timeout=SERVER_TIMEOUT / 2).close()
        except (OSError, OverflowError) as error:
            raise files.UserError(
                f"--address {address}: nobody answers ({files.one_line(error)}); start it: "
                "ray start --head"
            ) from None
    command = [sys.executable, "-m", "ray.scripts.scripts", "status"] + (
        [] if address == "auto" else ["--address", address]
    )
    modes, until = [os.environ.get("RAY_AUTH_MODE")], time.monotonic() + SERVER_TIMEOUT
    if not modes[0] and Path("~/.ray/auth_token").expanduser().exists():
        modes.append("token")  # `ray start --head` asks for it of its own accord where there is one
    for mode in modes:
        environment = os.environ | ({"RAY_AUTH_MODE": mode} if mode else {})
        with contextlib.suppress(subprocess.TimeoutExpired):
            left = max(until - time.monotonic(), 0.1)
            if not subprocess.run(
                command, capture_output=True, env=environment, timeout=left, check=False
            ).returncode:
                os.environ.update(environment)
                return
    raise files.UserError(
        f"--address {address}: no Ray cluster answers there, or it wants another token; start one: "
        "ray start --head"
    )


def _try_storage(storage):
    """Raise UserError where nothing can be written to `storage`; libraries for remote storage try for minutes."""
    said = []

    def attempt():
        try:
            with tempfile.NamedTemporaryFile() as probe:
                there = _Checkpoint(storage, f"probe-{socket.gethostname()}-{os.getpid()}")
                there.put(probe.name)
                there.remove()
            said.append(None)
        except Exception as error:
            said.append(files.one_line(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(SERVER_TIMEOUT)
    if not said or said[0]:
        why = said[0] if said else f"no answer within {SERVER_TIMEOUT} seconds"
        raise files.UserError(
            f"--storage {storage}: {why}; checkpoints need a place that can be written"
        )
