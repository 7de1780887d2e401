"""A training's epochs in MLflow while they happen, as best effort."""

import os
import queue
import threading
import time

from ferlab import files
from ferlab.tracking import provenance, search, store, writing

_SAID = set()  # troubles that this process has reported


class EpochLogger:
    """Logs a training's epochs to MLflow from a thread of its own, so that nothing waits for it.

    settings: the parameters as nested dicts. dataset: its name. training: the hash of all that
    decides the weights; the run bears it as a tag from its first moment, so the same training, once
    killed, goes on with its run. note: a file that holds the last epoch while the training is
    unfinished. name: of a recipe's key, else that of the DVC experiment.
    The thread starts with the first epoch: what MLflow does cannot touch the making of the network.
    """

    def __init__(self, settings, dataset, training, note, name=""):
        self.settings, self.dataset, self.training, self.note = settings, dataset, training, note
        self.name = name or os.environ.get("DVC_EXP_NAME") or "training"
        self.queue, self.thread, self.trouble = queue.Queue(), None, None
        self.start = time.time()

    def epoch(self, row):
        """Log one epoch. row: a dict of a row of history.csv."""
        files.write_json(self.note, {"epoch": row["epoch"]})
        self.queue.put(row)
        if not self.thread:
            self.thread = threading.Thread(target=self._work, daemon=True)
            self.thread.start()

    def close(self, status=None, wait=8):
        """Wait some seconds for what is not logged yet.

        status: KILLED or FAILED, which ends the run of such a training; else evaluation ends it.
        """
        self.queue.put(status)
        self.wait(wait)
        if self.trouble and self.trouble not in _SAID:  # once, not for every trial of a sweep
            _SAID.add(self.trouble)
            print(
                f"warning: epochs not shown in MLflow ({self.trouble}); "
                "`python -m ferlab sync` adds them once there is a result"
            )

    def wait(self, seconds):
        """Wait for the thread to end, at most so many seconds."""
        if self.thread:
            self.thread.join(timeout=max(seconds, 0))

    def record(self, dataset, parameters, seconds, precision):
        """The content of run.json. parameters: number of weights. seconds: of each epoch."""
        return provenance.run_of(
            dataset, parameters, sum(seconds), seconds, self.training, precision
        )

    def _work(self):
        # best effort: evaluation and `ferlab sync` complete the run from files
        try:
            self._log()
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {files.one_line(error)}"

    def _log(self):
        run_id, logged = self._run()
        if not run_id:
            return
        while isinstance(row := self.queue.get(), dict):
            if row["epoch"] not in logged:
                with store.store() as client:
                    writing.log_epoch(client, run_id, row)
        if row:
            with store.store() as client:
                client.set_terminated(run_id, row)

    def _run(self):
        """(id, epochs it has) of the run to log into, continued or new.

        (None, ()) where the result, equal to the last bit, has its run: it was forced to run again.
        """
        with store.store() as client:
            store.mark_dead_runs(client)
            if search.is_complete(client, self.training, self.settings, self.name):
                return None, ()
            process = store.process()
            run_id = search.unfinished(client, self.training, self.settings, self.name)
            if not run_id:
                tags = {"ferlab.training": self.training, **process}
                run_id = writing.create(
                    client, self.dataset, self.settings, self.name, tags, self.start
                )
            client.update_run(run_id, status="RUNNING")
            for name, value in process.items():
                client.set_tag(run_id, name, value)
            return run_id, search.epochs(client, run_id)
