"""Trainings on a Ray cluster: Ray places them, starts them again where a process or a node died,
and returns their results.

Nothing here schedules. After each epoch a training writes its checkpoint to a storage that all
nodes reach; started again, on whatever node, it goes on from there to the same bytes. The faces are
sent once, and lie once in each node's shared memory.
"""

import contextlib
import os
from dataclasses import replace

import numpy as np

from ferlab import files, secrets
from ferlab.scaling import connection, node, storage
from ferlab.scaling.storage import Checkpoint

MAX_RETRIES = 20  # of a training whose process or node died; an error of its own is never retried


class Cluster:
    """A connection to the cluster at `address`: local (this machine alone), auto (the cluster it
    belongs to), <host>:<port>.

    threads: processor threads of a training, which Ray counts as its cores. nodes: how many must
    have joined. Checkpoints go to `folder`, or to `storage`: a folder that all nodes see, or any
    address that fsspec knows; several machines need it. Raises UserError within seconds.
    """

    def __init__(self, address="local", threads=1, nodes=1, *, folder, storage=None):
        connection.check_installed()
        self.threads, self.storage = threads, _checked(storage or folder)
        self.ray = connection.connect(address, threads)
        try:
            connection.wait_for_nodes(self.ray, nodes, threads, bool(storage))
        except files.UserError:
            self.ray.shutdown()
            raise
        self.address = self.ray.get_runtime_context().gcs_address
        self.queue, self.task = self._queue(), self._task()
        self.running, self.reported, self.versions = {}, {}, node.versions()

    def _queue(self):
        """The EventQueue, on this machine; what it lost when its process died comes with the
        result.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        this_node = self.ray.get_runtime_context().get_node_id()
        strategy = NodeAffinitySchedulingStrategy(this_node, soft=False)
        restarted = {"max_restarts": -1, "max_task_retries": -1}
        actor = self.ray.remote(num_cpus=0, scheduling_strategy=strategy, **restarted)
        return actor(node.EventQueue).remote()

    def _task(self):
        return self.ray.remote(num_cpus=self.threads, max_retries=MAX_RETRIES)(node.train)

    def capacity(self):
        """How many trainings the living nodes have room for at a time."""
        return sum(
            int(each["Resources"].get("CPU", 0) // self.threads)
            for each in connection.living_nodes(self.ray)
        )

    def share(self, dataset):
        """Put a Dataset into shared memory; returns what `start` takes."""
        return self.ray.put(shareable(dataset))

    def start(self, name, shared, settings):
        """Start a training (train section) of a shared dataset. name: of its checkpoint, too."""
        self.reported[name] = set()
        self.ray.get(self.queue.begin.remote(name))
        self.running[name] = self.task.remote(
            shared, settings, name, self.storage, self.versions, self.queue
        )

    def stop(self, name):
        """Let a training end after its current epoch; its checkpoint stays until `forget`."""
        self.queue.stop.remote(name)

    def checkpoint(self, name):
        """A training's checkpoint in the storage."""
        return Checkpoint(self.storage, name)

    def forget(self, name):
        """Remove a training's checkpoint."""
        # libraries for remote storage raise their own kinds; a checkpoint that stays is only litter
        with contextlib.suppress(Exception):
            self.checkpoint(name).remove()

    def events(self, wait=0.5):
        """What happened, after at most `wait` seconds: a list of (name, kind, content).

        kinds: "epoch" (history row, seconds), once for each epoch, also for those before a resume;
        "resumed", "nondeterministic" and "unsaved" (a line, or None); at the end one of "done" (a
        dict: model, the .keras file's bytes; history; seconds; parameters; machine), "stopped" or
        "failed" (an exception).
        """
        tasks = list(self.running.values())
        ended = self.ray.wait(tasks, num_returns=1, timeout=wait)[0] if tasks else []
        events = [event for event in self.ray.get(self.queue.take.remote()) if self._is_new(*event)]
        for name, task in list(self.running.items()):
            if task in ended:
                del self.running[name]
                events += self._end(name, task)
        return events

    def _end(self, name, task):
        """The last events of a training that has ended."""
        try:
            result = self.ray.get(task)
        except Exception as error:  # the training's own, or Ray's after the last retry
            return [(name, "failed", getattr(error, "cause", None) or error)]
        if result is None:
            return [(name, "stopped", None)]
        # a dying node may not have reported every epoch
        rows = zip(result["history"].to_dict("records"), result["seconds"], strict=True)
        missing = [(name, "epoch", pair) for pair in rows if self._is_new(name, "epoch", pair)]
        return [*missing, (name, "done", result)]

    def _is_new(self, name, kind, content):
        """Whether an event is not yet reported (a restarted training reports again); from now on it
        is.
        """
        mark = content[0]["epoch"] if kind == "epoch" else kind
        is_new = mark not in self.reported.get(name, {mark})
        self.reported.get(name, set()).add(mark)
        return is_new

    def close(self):
        """End what still runs; the finished epochs are kept in the storage."""
        for task in self.running.values():
            self.ray.cancel(task, force=True)
        self.ray.shutdown()


def _checked(place):
    address = storage.address(place)
    storage.check(address)
    return address


def shareable(dataset):
    """The Dataset with faces that pickle passes on without a copy, which it does not do for
    memory-mapped ones.
    """
    return replace(dataset, faces=np.asarray(dataset.faces))


def fit(dataset, settings, folder, on_epoch, on_nondeterministic, on_wait):
    """ferlab.training.loop.fit on the cluster that FERLAB_RAY names.

    Returns (the content of the event "done", a function that removes the checkpoint, to be called
    once the model is written). on_wait() is called at least once a second. FERLAB_THREADS: threads
    of the training, else as many as this machine has cores. FERLAB_STORAGE: for the checkpoint,
    else `folder`.
    """
    name, place = folder.name, os.environ.get("FERLAB_STORAGE")
    cluster = Cluster(os.environ["FERLAB_RAY"], _threads(), folder=folder, storage=place)
    try:
        cluster.start(name, cluster.share(dataset), settings)
        while True:
            on_wait()
            for _, kind, content in cluster.events():
                if kind == "epoch":
                    on_epoch(*content)
                elif kind == "resumed":
                    print("resuming an interrupted training")
                elif kind == "nondeterministic":
                    on_nondeterministic()
                elif kind == "unsaved":
                    print(content)
                elif kind == "failed":
                    raise _user_error(content)
                elif kind == "done":
                    return content, lambda: cluster.forget(name)
    finally:
        cluster.close()


def _threads():
    threads = os.environ.get("FERLAB_THREADS", "") or str(os.cpu_count())
    if not threads.isdecimal() or threads == "0":
        raise files.UserError(f"FERLAB_THREADS={threads}: must be a number from 1")
    return int(threads)


def _user_error(error):
    if isinstance(error, files.UserError):
        return error
    return files.UserError(f"the cluster: {secrets.one_line(error)}")
