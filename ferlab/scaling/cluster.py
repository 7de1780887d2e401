"""A Ray cluster, and trainings on it by Ray Tune, which places them, starts them again where a
process or a node died, and keeps their checkpoints and its own notes in a storage.

The faces are sent once, and lie once in each node's shared memory.
"""

import contextlib
import os
from dataclasses import replace

import numpy as np
import pandas as pd

from ferlab import files, secrets
from ferlab.scaling import connection, storage

MAX_RETRIES = 20  # of a training whose process or node died; an error of its own is never retried


def _ignore(*_):
    pass


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

    def capacity(self):
        """How many trainings the living nodes have room for at a time."""
        return sum(
            int(each["Resources"].get("CPU", 0) // self.threads)
            for each in connection.living_nodes(self.ray)
        )

    def run(self, name, dataset, settings, wait=_ignore, report=_ignore, end=_ignore, **config):
        """Train by Ray Tune, and return its ResultGrid; where a command died over it, go on.

        name: of the folder in the storage. settings: the train section. wait, report, end: as in
        trainable.Told. config: of Tune's TuneConfig. A UserError of these functions comes through.
        """
        from ray import tune

        from ferlab.scaling.trainable import Told, train, versions

        Told.on_wait, Told.on_report, Told.on_end = map(staticmethod, (wait, report, end))
        filesystem, path = storage.opened(self.storage)
        given = {"dataset": shareable(dataset), "settings": settings}
        train = tune.with_parameters(train, **given, expected_versions=versions())
        train = tune.with_resources(train, {"CPU": self.threads})
        if tune.Tuner.can_restore(f"{path}/{name}", filesystem):
            tuner = tune.Tuner.restore(f"{path}/{name}", train, storage_filesystem=filesystem)
        else:
            run_config = tune.RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                # the last but one, too: it is what Tune's notes may know when the command dies
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                callbacks=[Told()],
                verbose=0,
            )
            config = {"metric": "kept", "mode": "max", "reuse_actors": True, **config}
            tuner = tune.Tuner(train, tune_config=tune.TuneConfig(**config), run_config=run_config)
        return tuner.fit()

    def forget(self, name):
        """Remove what the storage holds of this name."""
        filesystem, path = storage.opened(self.storage)
        # libraries for remote storage raise their own kinds; a checkpoint that stays is only litter
        with contextlib.suppress(Exception):
            filesystem.delete_dir(f"{path}/{name}")

    def close(self):
        """End what still runs; the finished epochs are kept in the storage."""
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

    Returns (a dict: model, the .keras file's bytes; history; seconds; parameters; machine;
    precision, a function that removes the checkpoint, to be called once the model is written).
    on_wait() is called again and again. FERLAB_THREADS: threads of the training, else as many as
    this machine has cores. FERLAB_STORAGE: for the checkpoint, else `folder`.
    """
    name, place = folder.name, os.environ.get("FERLAB_STORAGE")
    cluster = Cluster(
        os.environ["FERLAB_RAY"],
        connection.count_of("FERLAB_THREADS", os.cpu_count()),
        folder=folder,
        storage=place,
    )

    def report(_, content):
        for note in content.get("notes", ()):
            on_nondeterministic() if note == "nondeterministic" else print(note)
        if "row" in content:
            on_epoch(content["row"], content["seconds"])

    try:
        [result] = cluster.run(name, dataset, settings, on_wait, report)
        if result.error or "failed" in result.metrics:
            cluster.forget(name)  # it would fail again from there
            reason = result.error and f"the cluster: {secrets.one_line(result.error)}"
            raise files.UserError(reason or result.metrics["failed"])
        finished = dict(result.metrics["finished"])
        del finished["sha256"]
        finished["history"] = pd.DataFrame(finished["history"])
        return finished, lambda: cluster.forget(name)
    finally:
        cluster.close()
