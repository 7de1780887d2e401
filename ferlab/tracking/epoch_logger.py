"""A training's epochs in MLflow while they happen, as best effort."""

import contextlib
import os
import queue
import threading

from ferlab import files
from ferlab.tracking import provenance, runs, store


class EpochLogger:
    """Reports a training's epochs to MLflow from a thread of its own.

    training: the hash of all that decides the weights. The run bears it as a tag from its first moment, so whoever trains the
    same again, resumed or from the start, goes on with the run of the one that was killed.
    note: a file that holds the last epoch while the training is unfinished.
    The thread starts with the first epoch: what MLflow does cannot touch the making of the network.
    """

    def __init__(self, settings, dataset, training, note, name=""):
        self.settings, self.dataset, self.training, self.note = settings, dataset, training, note
        self.name = name or os.environ.get("DVC_EXP_NAME") or "training"
        self.queue, self.thread = queue.Queue(), None

    def epoch(self, row):
        files.write_json(self.note, {"epoch": row["epoch"]})
        self.queue.put(row)
        if not self.thread:
            self.thread = threading.Thread(target=self._work, daemon=True)
            self.thread.start()

    def close(self, status=None, wait=8):
        """Wait some seconds for what is not yet reported; a killed or failed training also ends its run."""
        self.queue.put(status)
        self.wait(wait)

    def wait(self, seconds):
        if self.thread:
            self.thread.join(timeout=max(seconds, 0))

    def record(self, dataset, parameters, seconds):
        """The content of run.json: what cannot be equal between two runs. seconds: of each epoch."""
        return {
            "dataset": dataset,
            "parameters": parameters,
            "train_seconds": round(sum(seconds), 2),
            "epochs": seconds,
            "training": self.training,
            "machine": provenance.machine(),
            "commit": provenance.commit(),
        }

    def _work(self):
        with contextlib.suppress(
            Exception
        ):  # best effort: evaluate and sync complete the run from files
            with store.store() as client:
                store.mark_dead_runs(client)
                if runs.is_complete(client, self.training, self.settings, self.name):
                    return  # forced to run again: the result, equal to the last bit, has its run
                run_id = runs.unfinished(client, self.training, self.settings, self.name)
                if not run_id:
                    tags = {"ferlab.training": self.training, **store.process()}
                    run_id = runs.create(client, self.dataset, self.settings, self.name, tags)
                client.update_run(run_id, status="RUNNING")
                for key, value in store.process().items():
                    client.set_tag(run_id, key, value)
                there = runs.steps(
                    client, run_id
                )  # the same training from the same start: equal to what comes now
            while isinstance(row := self.queue.get(), dict):
                if row["epoch"] not in there:
                    with store.store() as client:
                        runs.log_epoch(client, run_id, row)
            if row:
                with store.store() as client:
                    client.set_terminated(run_id, row)
